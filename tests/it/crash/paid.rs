//! What a Pebble has been asked to pay for, from its log.

use std::collections::BTreeSet;

/// What Pebble logs as `Issued certificate serial S for order O`, and what led to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paid {
    /// Serial number and order of each certificate.
    pub(crate) certificates: Vec<(String, String)>,
    /// How many orders were placed.
    pub(crate) orders: usize,
    /// How many orders the CA gave up, since it found no proof where it looked.
    pub(crate) unproven: usize,
    /// How many accounts were made.
    pub(crate) accounts: usize,
}

impl Paid {
    pub(crate) fn read(log: &str) -> Self {
        let issued = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once("Issued certificate serial ")?;
            let (serial, order) = rest.split_once(" for order ")?;
            Some((significant(serial), order.trim().to_owned()))
        });
        let count = |what: &str| log.lines().filter(|it| it.contains(what)).count();
        Self {
            certificates: issued.collect(),
            orders: count("Added order "),
            unproven: count(" set INVALID by invalid authz "),
            accounts: count(" accounts in memory"),
        }
    }

    /// What came on top of `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let certificates = self.certificates.get(before.certificates.len()..);
        Self {
            certificates: certificates.unwrap_or_default().to_vec(),
            orders: self.orders.saturating_sub(before.orders),
            unproven: self.unproven.saturating_sub(before.unproven),
            accounts: self.accounts.saturating_sub(before.accounts),
        }
    }

    /// Whether each certificate had an order of its own.
    pub(crate) fn is_one_for_one(&self) -> bool {
        let filled: BTreeSet<_> = self.certificates.iter().map(|(_, order)| order).collect();
        filled.len() == self.certificates.len()
    }
}

/// A serial number as everybody writes it.
pub(crate) fn significant(serial: &str) -> String {
    serial.trim_start_matches('0').to_ascii_uppercase()
}
