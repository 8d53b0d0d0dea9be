//! dns-update's settings of the providers that take more than a few texts.
//!
//! Not here: which keys they need ([`super::catalogue`]).

use std::collections::HashMap;

use dns_update::DnsUpdater;
use dns_update::providers::azuredns::{AzureDnsConfig, AzureEnvironment};
use dns_update::providers::bluecatv2::BluecatV2Config;
use dns_update::providers::edgedns::EdgeDnsConfig;
use dns_update::providers::google_cloud_dns::GoogleCloudDnsConfig;
use dns_update::providers::infoblox::InfobloxConfig;
use dns_update::providers::joker::JokerAuth;
use dns_update::providers::lightsail::LightsailConfig;
use dns_update::providers::oraclecloud::OracleCloudConfig;
use dns_update::providers::ovh::OvhEndpoint;
use dns_update::providers::route53::Route53Config;
use dns_update::providers::volcengine::VolcengineConfig;
use dns_update::providers::yandexcloud::YandexCloudConfig;
use dns_update::{Error, Result};

use super::settings::Given;
use super::update::LIMIT;

pub(super) fn azuredns(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_azuredns(AzureDnsConfig {
        tenant_id: it.value("tenant_id").to_owned(),
        client_id: it.value("client_id").to_owned(),
        client_secret: it.secret("secret").to_owned(),
        subscription_id: it.value("subscription_id").to_owned(),
        resource_group: it.value("resource_group").to_owned(),
        environment: AzureEnvironment::from_str_lossy(it.value("environment")),
        request_timeout: LIMIT,
    })
}

pub(super) fn bluecatv2(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_bluecatv2(BluecatV2Config {
        server_url: it.value("url").to_owned(),
        username: it.value("user").to_owned(),
        password: it.secret("password").to_owned(),
        config_name: it.value("config_name").to_owned(),
        view_name: it.value("view_name").to_owned(),
        skip_deploy: false,
        request_timeout: LIMIT,
    })
}

pub(super) fn edgedns(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_edgedns(EdgeDnsConfig {
        host: it.value("host").to_owned(),
        client_token: it.secret("key").to_owned(),
        client_secret: it.secret("secret").to_owned(),
        access_token: it.secret("token").to_owned(),
        account_switch_key: it.optional("account_switch_key"),
        request_timeout: LIMIT,
    })
}

pub(super) fn google_cloud_dns(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_google_cloud_dns(GoogleCloudDnsConfig {
        service_account_json: it.secret("key").to_owned(),
        project_id: it.value("project_id").to_owned(),
        managed_zone: it.optional("managed_zone"),
        private_zone: false,
        impersonate_service_account: it.optional("impersonate_service_account"),
        request_timeout: LIMIT,
    })
}

pub(super) fn hurricane(it: Given<'_>) -> Result<DnsUpdater> {
    let keys: HashMap<String, String> = serde_json::from_str(it.secret("key"))
        // The error would show a part of what it read.
        .map_err(|_secret| Error::Parse("the key is no JSON object of texts".to_owned()))?;
    DnsUpdater::new_hurricane(keys, LIMIT)
}

pub(super) fn infoblox(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_infoblox(InfobloxConfig {
        host: it.value("host").to_owned(),
        port: it.optional("port"),
        username: it.value("user").to_owned(),
        password: it.secret("password").to_owned(),
        wapi_version: it.optional("wapi_version"),
        dns_view: it.optional("dns_view"),
        request_timeout: LIMIT,
    })
}

pub(super) fn joker(it: Given<'_>) -> Result<DnsUpdater> {
    let login = match it.optional_secret("key") {
        Some(key) => JokerAuth::api_key(key),
        None => JokerAuth::username_password(it.value("user"), it.secret("password")),
    };
    DnsUpdater::new_joker(login, LIMIT)
}

pub(super) fn lightsail(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_lightsail(LightsailConfig {
        access_key_id: it.secret("key").to_owned(),
        secret_access_key: it.secret("secret").to_owned(),
        session_token: it.optional_secret("token"),
        region: it.optional("region"),
        domain: it.optional("domain"),
        request_timeout: LIMIT,
    })
}

pub(super) fn oraclecloud(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_oraclecloud(OracleCloudConfig {
        tenancy_ocid: it.value("tenancy_ocid").to_owned(),
        user_ocid: it.value("user_ocid").to_owned(),
        fingerprint: it.value("fingerprint").to_owned(),
        private_key_pem: it.secret("key").to_owned(),
        private_key_password: it.optional_secret("password"),
        region: it.value("region").to_owned(),
        compartment_ocid: it.value("compartment_ocid").to_owned(),
        request_timeout: LIMIT,
    })
}

pub(super) fn ovh(it: Given<'_>) -> Result<DnsUpdater> {
    let endpoint = match it.optional("endpoint") {
        Some(name) => name.parse()?,
        None => OvhEndpoint::OvhEu,
    };
    DnsUpdater::new_ovh(it.secret("key"), it.secret("secret"), it.secret("token"), endpoint, LIMIT)
}

pub(super) fn route53(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_route53(Route53Config {
        access_key_id: it.secret("key").to_owned(),
        secret_access_key: it.secret("secret").to_owned(),
        session_token: it.optional_secret("token"),
        region: it.optional("region"),
        hosted_zone_id: it.optional("hosted_zone_id"),
        private_zone_only: None,
        endpoint: it.optional("url"),
    })
}

pub(super) fn volcengine(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_volcengine(VolcengineConfig {
        access_key: it.secret("key").to_owned(),
        secret_key: it.secret("secret").to_owned(),
        region: it.optional("region"),
        host: None,
        scheme: None,
        request_timeout: LIMIT,
    })
}

pub(super) fn yandexcloud(it: Given<'_>) -> Result<DnsUpdater> {
    DnsUpdater::new_yandexcloud(YandexCloudConfig {
        iam_token_b64: it.secret("key").to_owned(),
        folder_id: it.value("folder_id").to_owned(),
        request_timeout: LIMIT,
    })
}
