//! Small fleets through a season; the bench lets large ones live for years.

use crate::soak::{Fate, decisions, stack};

/// A thousand certificates, sixty days: what is decided costs no certificate and no limit.
#[test]
fn a_fleet_outlives_faults_an_outage_and_a_recall() {
    let fate = Fate { certificates: 1000, days: 60, seed: 7, outage: 40, incident: 20 };
    let figures = decisions::live(fate, |_, _| {});
    figures.check();
    assert!(figures.issued > 1000, "{figures}");
}

/// Ten certificates by the whole of renewd, for forty days.
#[tokio::test]
async fn a_small_fleet_outlives_faults_an_outage_and_a_recall_with_all_its_files() {
    let fate = Fate { certificates: 10, days: 40, seed: 7, outage: 20, incident: 8 };
    let figures = stack::live(fate, |_, _| {}).await;
    figures.check();
    assert!(figures.issued > 16, "{figures}");
}
