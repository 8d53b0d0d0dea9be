//! The tables of one kind by name, with those that were refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use super::World;
use crate::config::fault::{Fault, Severity};
use crate::config::field::{At, Item};
use crate::config::suggest;
use crate::config::tree::Place;

/// Tables by name.
#[derive(Debug)]
pub(super) struct Registry<N, T> {
    good: BTreeMap<N, T>,
    refused: BTreeSet<N>,
}

impl<N: Ord + Clone + Display + FromStr, T> Registry<N, T> {
    pub(super) const fn new() -> Self {
        Self { good: BTreeMap::new(), refused: BTreeSet::new() }
    }

    pub(super) fn insert(&mut self, name: N, value: T) {
        self.refused.remove(&name);
        self.good.insert(name, value);
    }

    pub(super) fn refuse(&mut self, name: N) {
        if !self.good.contains_key(&name) {
            self.refused.insert(name);
        }
    }

    pub(super) fn get(&self, name: &N) -> Option<&T> {
        self.good.get(name)
    }

    pub(super) fn into_good(self) -> BTreeMap<N, T> {
        self.good
    }

    /// Says that `at` names no good table: unknown (with the nearest known), or refused.
    pub(super) fn fault(&self, kind: &str, at: &At<N>, world: &World<'_>) -> Fault {
        let name = at.value.to_string();
        if self.refused.contains(&at.value) {
            let fault = at.fault(format!("the {kind} {name:?} was refused"));
            return fault.severity(Severity::Rejection);
        }
        let known: Vec<String> = self.good.keys().map(ToString::to_string).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let fault = at.fault(format!("there is no {kind} {name:?}"));
        let hint = suggest::nearest(&name, known.iter().copied()).map_or_else(
            || format!("add [{kind}.{name}], or write one of: {}", known.join(", ")),
            |near| format!("write {near:?}"),
        );
        world.unknown(fault.hint(hint))
    }
}

/// The first of each name in `items`, whose labels are names. Others are settled as faults.
pub(super) fn named<N, T>(items: Vec<Item<T>>, world: &mut World<'_>) -> Vec<(N, Item<T>)>
where
    N: Ord + Clone + FromStr<Err: Display>,
{
    let mut places: BTreeMap<N, Place> = BTreeMap::new();
    let mut named = Vec::new();
    for mut item in items {
        let name: N = match item.label.parse() {
            Ok(name) => name,
            Err(error) => {
                let fault = item.fault(format!("{:?} is {error}", item.label));
                item.faults.push(fault);
                world.settle(item.faults);
                continue;
            }
        };
        if let Some(first) = places.get(&name) {
            let fault = item.fault(format!("stands here a second time, first at {first}"));
            world.settle(vec![fault.hint("put both into one, or name one of them otherwise")]);
            continue;
        }
        places.insert(name.clone(), item.place.clone());
        named.push((name, item));
    }
    named
}
