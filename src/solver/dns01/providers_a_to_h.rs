//! The providers of dns-update whose names begin with a to h: what each is
//! called, what it needs, and how it is made.
//!
//! Not here: how they are used ([`super::update`]).

use dns_update::DnsUpdater;

use super::catalogue::{Kind, Make, Need, Values, updaters};
use super::configs::{azuredns, bluecatv2, edgedns, google_cloud_dns, hurricane};
use super::update::LIMIT;

updaters! { A_TO_H:
    "alidns" {
        key: "the access key id",
        secret: "the access key secret",
    } [
        token: "a security token",
        region: "the region",
        line: "the line",
    ] Many
        |it| DnsUpdater::new_alidns(
            it.secret("key"),
            it.secret("secret"),
            it.optional("region"),
            it.optional_secret("token"),
            it.optional("line"),
            LIMIT,
        );
    "arvancloud" { key: "an API key" } [] Many
        |it| DnsUpdater::new_arvancloud(it.secret("key"), LIMIT);
    "autodns" {
        user: "the user",
        password: "the password",
    } [
        context: "the context, a number",
    ] Many
        |it| DnsUpdater::new_autodns(
            it.value("user"),
            it.secret("password"),
            it.number("context"),
            LIMIT,
        );
    "azuredns" {
        secret: "the client secret",
        tenant_id: "the tenant",
        client_id: "the client",
        subscription_id: "the subscription",
        resource_group: "the resource group of the zone",
    } [
        environment: "public, china or usgovernment",
    ] Many
        |it| azuredns(it);
    "baiducloud" { key: "the access key", secret: "the secret key" } [] Many
        |it| DnsUpdater::new_baiducloud(it.secret("key"), it.secret("secret"), LIMIT);
    "bluecatv2" {
        url: "the server",
        user: "the user",
        password: "the password",
        config_name: "the configuration",
        view_name: "the view",
    } [] Many
        |it| bluecatv2(it);
    "bunny" { key: "an API key" } [] Many
        |it| DnsUpdater::new_bunny(it.secret("key"), LIMIT);
    "cloudflare" { token: "an API token that may edit the zone's DNS" } [] Many
        |it| DnsUpdater::new_cloudflare(it.secret("token"), LIMIT);
    "cloudns" {
        password: "the password of the API user",
    } [
        auth_id: "the API user",
        sub_auth_id: "or the sub-user",
    ] Many
        |it| DnsUpdater::new_cloudns(
            it.optional("auth_id"),
            it.optional("sub_auth_id"),
            it.secret("password"),
            LIMIT,
        );
    "constellix" { key: "the API key", secret: "the secret key" } [] Many
        |it| DnsUpdater::new_constellix(it.secret("key"), it.secret("secret"), LIMIT);
    "cpanel" { url: "the server with its port", user: "the user", token: "an API token" } [] Many
        |it| DnsUpdater::new_cpanel(it.value("url"), it.value("user"), it.secret("token"), LIMIT);
    "ddnss" { key: "the update key" } [] One
        |it| DnsUpdater::new_ddnss(it.secret("key"), LIMIT);
    "desec" { token: "an API token" } [] Many
        |it| DnsUpdater::new_desec(it.secret("token"), LIMIT);
    "digitalocean" { token: "a personal access token" } [] Many
        |it| DnsUpdater::new_digitalocean(it.secret("token"), LIMIT);
    "dnsimple" { token: "an API access token", account_id: "the account" } [] Many
        |it| DnsUpdater::new_dnsimple(it.secret("token"), it.value("account_id"), LIMIT);
    "dnsmadeeasy" { key: "an API key", secret: "its secret" } [] Many
        |it| DnsUpdater::new_dnsmadeeasy(it.secret("key"), it.secret("secret"), LIMIT);
    "domeneshop" { token: "the API token", secret: "the API secret" } [] Many
        |it| DnsUpdater::new_domeneshop(it.secret("token"), it.secret("secret"), LIMIT);
    "dreamhost" { key: "an API key" } [] Many
        |it| DnsUpdater::new_dreamhost(it.secret("key"), LIMIT);
    "duckdns" { token: "the account's token" } [] One
        |it| DnsUpdater::new_duckdns(it.secret("token"), LIMIT);
    "dynu" { key: "an API key" } [] Many
        |it| DnsUpdater::new_dynu(it.secret("key"), LIMIT);
    "easydns" { token: "the API token", key: "the API key" } [] Many
        |it| DnsUpdater::new_easydns(it.secret("token"), it.secret("key"), LIMIT);
    "edgedns" {
        host: "the host of the API client",
        key: "the client token",
        secret: "the client secret",
        token: "the access token",
    } [
        account_switch_key: "the account to switch to",
    ] Many
        |it| edgedns(it);
    "exoscale" { key: "an API key", secret: "its secret" } [] Many
        |it| DnsUpdater::new_exoscale(it.secret("key"), it.secret("secret"), LIMIT);
    "freemyip" { token: "the domain's token" } [] One
        |it| DnsUpdater::new_freemyip(it.secret("token"), LIMIT);
    "gandiv5" { token: "a personal access token" } [] Many
        |it| DnsUpdater::new_gandiv5(it.secret("token"), LIMIT);
    "gcore" { token: "an API token" } [] Many
        |it| DnsUpdater::new_gcore(it.secret("token"), LIMIT);
    "glesys" { user: "the API user", key: "an API key" } [] Many
        |it| DnsUpdater::new_glesys(it.value("user"), it.secret("key"), LIMIT);
    "godaddy" { key: "an API key", secret: "its secret" } [] Many
        |it| DnsUpdater::new_godaddy(it.secret("key"), it.secret("secret"), LIMIT);
    "google_cloud_dns" {
        key: "the JSON key of a service account",
        project_id: "the project",
    } [
        managed_zone: "the zone's name there",
        impersonate_service_account: "the account to act as",
    ] Many
        |it| google_cloud_dns(it);
    "hetzner" { token: "an API token" } [] Many
        |it| DnsUpdater::new_hetzner(it.secret("token"), LIMIT);
    "hostingde" { key: "an API key" } [] Many
        |it| DnsUpdater::new_hostingde(it.secret("key"), LIMIT);
    "hostinger" { token: "an API token" } [] Many
        |it| DnsUpdater::new_hostinger(it.secret("token"), LIMIT);
    "huaweicloud" {
        key: "the access key",
        secret: "the secret key",
        region: "the region",
    } [] Many
        |it| DnsUpdater::new_huaweicloud(
            it.secret("key"),
            it.secret("secret"),
            it.value("region"),
            LIMIT,
        );
    "hurricane" { key: "a JSON object: each record's name and its key" } [] One
        |it| hurricane(it);
}
