//! How a scripted CA is set up.

use std::path::PathBuf;
use std::time::Duration;

use super::limits::Limits;

/// How the CA is set up; the defaults are those of a friendly one.
#[derive(Clone, Debug)]
pub struct CaOptions {
    /// Its profiles; the first is that of orders which name none.
    pub profiles: Vec<Profile>,
    /// How it finds out whether a proof is there.
    pub proofs: Proofs,
    /// For how long a valid authorization is used again.
    pub reuse_authorizations: Duration,
    /// Whether an order for the same identifiers that is still open is given again.
    pub reuse_orders: bool,
    /// How long an order may take until it is finalized.
    pub order_lifetime: Duration,
    /// How long it takes to look for a proof.
    pub validation_takes: Duration,
    /// How long it takes to make a certificate.
    pub issuing_takes: Duration,
    /// Its limits; none by default.
    pub limits: Limits,
    /// The external account binding that it wants: key identifier and key in base64url.
    pub binding: Option<(String, String)>,
    /// How many chains there are beside the default one.
    pub alternates: usize,
    /// Where its terms of service stand.
    pub terms: String,
    /// Whether it suggests when to renew (RFC 9773).
    pub renewal_info: bool,
    /// When it wants to be asked again about that.
    pub poll_after: Duration,
    /// By how much the `Date` of its answers is ahead of its clock, in seconds.
    pub date_skew: i64,
    /// For faults that happen by chance.
    pub seed: u64,
}

/// A kind of certificate.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// How long certificates live.
    pub lifetime: Duration,
    /// How far in the past their life begins.
    pub backdated: Duration,
    /// How many names they may have.
    pub max_names: usize,
}

/// How the CA finds out whether a proof is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proofs {
    /// It takes every proof for given.
    Accepted,
    /// http-01 by the files in a folder, each called as its token.
    Files(PathBuf),
    /// http-01 by asking this port of 127.0.0.1 (RFC 8555 §8.3).
    Port(u16),
}

impl Default for CaOptions {
    fn default() -> Self {
        let profile = |name: &str, days: u64| Profile {
            name: name.to_owned(),
            lifetime: Duration::from_hours(days * 24),
            backdated: Duration::from_hours(1),
            max_names: 100,
        };
        Self {
            profiles: vec![profile("default", 90), profile("medium", 45), profile("short", 6)],
            proofs: Proofs::Accepted,
            reuse_authorizations: Duration::ZERO,
            reuse_orders: false,
            order_lifetime: Duration::from_hours(7 * 24),
            validation_takes: Duration::ZERO,
            issuing_takes: Duration::ZERO,
            limits: Limits::default(),
            binding: None,
            alternates: 0,
            terms: "https://ca.example/terms/1".to_owned(),
            renewal_info: true,
            poll_after: Duration::from_hours(6),
            date_skew: 0,
            seed: 1,
        }
    }
}
