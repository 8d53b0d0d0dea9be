//! What tests build an agent on.

use std::sync::Arc;
use std::time::Duration;

use super::Base;
use crate::config::Config;
use crate::model::{Event, Observer};
use crate::solver::HandedSockets;
use crate::store::Store;
use crate::sys::clock::Clock;

#[derive(Debug)]
struct Deaf;

impl Observer for Deaf {
    fn observe(&self, _: &Event) {}
}

/// The store of `config`, with the time of `clock`, and nobody who is told.
pub(crate) async fn base(config: &Config, clock: Arc<dyn Clock>) -> Base {
    let store = Store::open(&config.store, clock.clone(), Duration::ZERO).await.unwrap();
    Base {
        store: Arc::new(store),
        clock,
        observer: Arc::new(Deaf),
        host: "test".to_owned(),
        handed: HandedSockets::default(),
    }
}
