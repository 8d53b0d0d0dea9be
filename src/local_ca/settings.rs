//! What the operator says of a built-in CA.
//!
//! Not here: the file's shape ([`crate::config`]).

use std::collections::BTreeSet;
use std::time::Duration;

use super::Subtree;
use crate::model::CaName;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One CA with `type = "local"`, every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalCaSettings {
    /// Its name.
    pub name: CaName,
    /// How long a leaf is valid; at most half of [`Self::intermediate_lifetime`].
    pub lifetime: Duration,
    /// How long an intermediate is valid; at most a quarter of [`Self::root_lifetime`].
    pub intermediate_lifetime: Duration,
    /// How long a root is valid.
    pub root_lifetime: Duration,
    /// What it may certify; everything if there is none. With names alone no address may be
    /// certified, and the reverse.
    pub permitted: BTreeSet<Subtree>,
    /// What the common names of its own certificates begin with.
    pub common_name: String,
    /// The organization in the subjects of its own certificates.
    pub organization: Option<String>,
    /// Whether leafs are for TLS clients too.
    pub client_auth: bool,
}

impl LocalCaSettings {
    /// How long a leaf is valid unless the operator says otherwise.
    pub const LIFETIME: Duration = DAY.saturating_mul(30);
    /// As [`Self::LIFETIME`], of an intermediate: a year of 365.25 days.
    pub const INTERMEDIATE_LIFETIME: Duration = Duration::from_secs(31_557_600);
    /// As [`Self::LIFETIME`], of a root: ten years.
    pub const ROOT_LIFETIME: Duration = Self::INTERMEDIATE_LIFETIME.saturating_mul(10);
    /// An intermediate is valid for at least so many lives of a leaf: it is replaced at half of its
    /// own, and the last leaf that it signs lives on below it.
    pub const LEAFS_PER_INTERMEDIATE: u32 = 2;
    /// A root is valid for at least so many lives of an intermediate, for the same reason and so
    /// that there is time to put its successor into trust stores.
    pub const INTERMEDIATES_PER_ROOT: u32 = 4;
    /// The longest `common_name`, in characters: with what is put behind it, it must fit into the
    /// 64 of RFC 5280 (ub-common-name).
    pub const MAX_COMMON_NAME: usize = 40;

    /// The settings of the CA `name` where the operator says nothing else.
    #[must_use]
    pub fn new(name: CaName) -> Self {
        let mut common_name = format!("renewd {name}");
        common_name.truncate(Self::MAX_COMMON_NAME);
        Self {
            name,
            lifetime: Self::LIFETIME,
            intermediate_lifetime: Self::INTERMEDIATE_LIFETIME,
            root_lifetime: Self::ROOT_LIFETIME,
            permitted: BTreeSet::new(),
            common_name,
            organization: None,
            client_auth: false,
        }
    }

    /// What stands where other CAs have a directory URL.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("local:{}", self.name)
    }
}
