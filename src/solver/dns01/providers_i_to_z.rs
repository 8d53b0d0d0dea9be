//! The providers of dns-update whose names begin with i to z: what each is
//! called, what it needs, and how it is made.
//!
//! Not here: how they are used ([`super::update`]).

use dns_update::DnsUpdater;

use super::catalogue::{Kind, Make, Need, Values, updaters, whole_zones};
use super::configs::{
    infoblox, joker, lightsail, oraclecloud, ovh, route53, volcengine, yandexcloud,
};
use super::settings::PDNS_URL;
use super::update::LIMIT;

updaters! { I_TO_Z:
    "ibmcloud" { user: "the user", key: "an API key" } [] Many
        |it| DnsUpdater::new_ibmcloud(it.value("user"), it.secret("key"), LIMIT);
    "infoblox" {
        host: "the host",
        user: "the user",
        password: "the password",
    } [
        port: "the port",
        wapi_version: "the version of its API",
        dns_view: "the view",
    ] Many
        |it| infoblox(it);
    "infomaniak" { token: "an access token" } [] Many
        |it| DnsUpdater::new_infomaniak(it.secret("token"), LIMIT);
    "inwx" {
        user: "the user",
        password: "the password",
    } [
        sandbox: "true for its test system",
    ] Many
        |it| DnsUpdater::new_inwx(
            it.value("user"),
            it.secret("password"),
            it.flag("sandbox"),
            LIMIT,
        );
    "ionos" { key: "the API key: prefix.secret" } [] Many
        |it| DnsUpdater::new_ionos(it.secret("key"), LIMIT);
    "ipv64" { key: "an API key" } [] Many
        |it| DnsUpdater::new_ipv64(it.secret("key"), LIMIT);
    "joker" {} [ key: "an API key", user: "or the user", password: "with the password" ] Many
        (whole_zones!()) |it| joker(it);
    "lightsail" {
        key: "the access key id",
        secret: "the secret access key",
    } [
        token: "a session token",
        region: "the region",
        domain: "the zone's name there",
    ] Many
        |it| lightsail(it);
    "linode" { token: "a personal access token" } [] Many
        |it| DnsUpdater::new_linode(it.secret("token"), LIMIT);
    "luadns" { user: "the user", token: "an API token" } [] Many
        |it| DnsUpdater::new_luadns(it.value("user"), it.secret("token"), LIMIT);
    "mythicbeasts" { user: "the id of the API key", password: "its secret" } [] Many
        |it| DnsUpdater::new_mythicbeasts(it.value("user"), it.secret("password"), LIMIT);
    "namecheap" {
        user: "the API user",
        key: "the API key",
        client_ip: "this machine's address, as allowed there",
    } [
        account_user: "the account, if it is another's",
    ] Many
        (whole_zones!()) |it| DnsUpdater::new_namecheap(
            it.value("user"),
            it.secret("key"),
            it.value("client_ip"),
            it.optional("account_user"),
            LIMIT,
        );
    "namedotcom" { user: "the user", token: "an API token" } [] Many
        |it| DnsUpdater::new_namedotcom(it.value("user"), it.secret("token"), LIMIT);
    "namesilo" { key: "an API key" } [] Many
        |it| DnsUpdater::new_namesilo(it.secret("key"), LIMIT);
    "netcup" {
        customer_number: "the customer's number",
        key: "the API key",
        password: "the API password",
    } [] Many
        |it| DnsUpdater::new_netcup(
            it.value("customer_number"),
            it.secret("key"),
            it.secret("password"),
            LIMIT,
        );
    "netlify" { token: "an access token" } [] Many
        |it| DnsUpdater::new_netlify(it.secret("token"), LIMIT);
    "nifcloud" { key: "the access key", secret: "the secret key" } [] Many
        |it| DnsUpdater::new_nifcloud(it.secret("key"), it.secret("secret"), LIMIT);
    "ns1" { key: "an API key" } [] Many
        |it| DnsUpdater::new_ns1(it.secret("key"), LIMIT);
    "oraclecloud" {
        key: "the private key, PEM",
        tenancy_ocid: "the tenancy",
        user_ocid: "the user",
        fingerprint: "the key's fingerprint",
        region: "the region",
        compartment_ocid: "the compartment",
    } [
        password: "the password of the private key",
    ] Many
        |it| oraclecloud(it);
    "ovh" {
        key: "the application key",
        secret: "the application secret",
        token: "the consumer key",
    } [
        endpoint: "ovh-eu (if nothing is written), ovh-us, ovh-ca, kimsufi-eu, …",
    ] Many
        |it| ovh(it);
    "pdns" {
        key: "the API key",
    } [
        url: "the server; if nothing is written http://localhost:8081",
        server_name: "the server's id; if nothing is written localhost",
    ] Many
        |it| DnsUpdater::new_pdns(
            it.secret("key"),
            it.optional("url").or_else(|| Some(PDNS_URL.to_owned())),
            it.optional("server_name"),
            LIMIT,
        );
    "plesk" { url: "the server with its port", key: "an API key" } [] Many
        |it| DnsUpdater::new_plesk(it.value("url"), it.secret("key"), LIMIT);
    "porkbun" { key: "the API key", secret: "the secret API key" } [] Many
        |it| DnsUpdater::new_porkbun(it.secret("key"), it.secret("secret"), LIMIT);
    "route53" {
        key: "the access key id",
        secret: "the secret access key",
    } [
        token: "a session token",
        region: "the region",
        hosted_zone_id: "the zone's id there; needed beside a private zone of the same name",
        url: "another endpoint of the API",
    ] Many
        |it| route53(it);
    "safedns" { token: "an API token" } [] Many
        |it| DnsUpdater::new_safedns(it.secret("token"), LIMIT);
    "scaleway" { token: "the secret key of an API key" } [] Many
        |it| DnsUpdater::new_scaleway(it.secret("token"), LIMIT);
    "selectel" {
        user: "the service user",
        password: "the password",
        account_id: "the account",
        project_id: "the project",
    } [] Many
        |it| DnsUpdater::new_selectel(
            it.value("user"),
            it.secret("password"),
            it.value("account_id"),
            it.value("project_id"),
            LIMIT,
        );
    "simplycom" { user: "the account's name", key: "an API key" } [] Many
        |it| DnsUpdater::new_simplycom(it.value("user"), it.secret("key"), LIMIT);
    "spaceship" { key: "an API key", secret: "its secret" } [] Many
        |it| DnsUpdater::new_spaceship(it.secret("key"), it.secret("secret"), LIMIT);
    "tencentcloud" {
        key: "the secret id",
        secret: "the secret key",
    } [
        token: "a session token",
        region: "the region",
    ] Many
        |it| DnsUpdater::new_tencentcloud(
            it.secret("key"),
            it.secret("secret"),
            it.optional("region"),
            it.optional_secret("token"),
            LIMIT,
        );
    "transip" {
        user: "the login",
        key: "the private key, PEM",
    } [
        global_key: "true for a key that is for every address",
    ] Many
        |it| DnsUpdater::new_transip(
            it.value("user"),
            it.secret("key"),
            it.flag("global_key"),
            LIMIT,
        );
    "ultradns" {
        user: "the user",
        password: "the password",
    } [
        url: "another endpoint of the API",
    ] Many
        |it| DnsUpdater::new_ultradns(
            it.value("user"),
            it.secret("password"),
            it.optional("url"),
            LIMIT,
        );
    "vercel" { token: "an access token" } [ team_id: "the team" ] Many
        |it| DnsUpdater::new_vercel(it.secret("token"), it.optional("team_id"), LIMIT);
    "volcengine" { key: "the access key", secret: "the secret key" } [ region: "the region" ] Many
        |it| volcengine(it);
    "vultr" { key: "an API key" } [] Many
        |it| DnsUpdater::new_vultr(it.secret("key"), LIMIT);
    "websupport" { key: "an API key", secret: "its secret" } [] Many
        |it| DnsUpdater::new_websupport(it.secret("key"), it.secret("secret"), LIMIT);
    "yandexcloud" {
        key: "the key of a service account, JSON in base64",
        folder_id: "the folder",
    } [] Many
        |it| yandexcloud(it);
    "zoneeu" { user: "the user", key: "an API key" } [] Many
        |it| DnsUpdater::new_zoneeu(it.value("user"), it.secret("key"), LIMIT);
}
