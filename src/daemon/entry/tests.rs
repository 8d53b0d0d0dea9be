//! Whose turn it is, what wakes whom, and who is told.

use super::*;
use crate::observe::alert::testing::{failing, served};

const DAY: Duration = Duration::from_secs(86_400);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

fn name(text: &str) -> CertificateName {
    text.parse().unwrap()
}

fn schedule(names: &[&str]) -> Schedule {
    let mut schedule = Schedule::default();
    schedule.set_names(&names.iter().map(|it| name(it)).collect());
    for it in names {
        let entry = schedule.get_mut(&name(it)).unwrap();
        entry.enter();
        tell(entry.end(at(0)), it);
    }
    schedule
}

/// Tells those who waited for the end of a run of the certificate called `of`.
fn tell(waiting: Vec<oneshot::Sender<WorkReport>>, of: &str) {
    waiting.into_iter().for_each(|it| drop(it.send(report(of))));
}

fn report(of: &str) -> WorkReport {
    WorkReport { name: name(of), renewed: false, failures: Vec::new(), status: None }
}

#[test]
fn what_runs_is_not_begun_again_and_wakes_nobody() {
    let mut schedule = schedule(&["a", "b"]);
    schedule.get_mut(&name("a")).unwrap().begin();
    assert_eq!(schedule.due(at(0), 9, 9), [name("b")]);
    schedule.get_mut(&name("b")).unwrap().begin();
    assert_eq!(schedule.sleep(at(0), Duration::from_secs(30)), Duration::from_secs(30));
}

#[test]
fn it_sleeps_until_the_next_moment_and_never_longer_than_allowed() {
    let mut schedule = schedule(&["a", "b"]);
    for (of, wake_at) in [("a", 100), ("b", 110)] {
        let entry = schedule.get_mut(&name(of)).unwrap();
        entry.begin();
        tell(entry.end(at(wake_at)), of);
    }
    assert_eq!(schedule.sleep(at(95), Duration::from_secs(30)), Duration::from_secs(5));
    assert_eq!(schedule.sleep(at(0), Duration::from_secs(30)), Duration::from_secs(30));
    assert_eq!(schedule.due(at(100), 9, 9), [name("a")]);
}

/// N02: of a thousand that are due at once a few begin, those that end first and what humans
/// wait for before all others.
#[test]
fn of_many_that_are_due_those_begin_that_end_first_after_what_humans_asked_for() {
    let names: Vec<String> = (0..1000).map(|it| format!("c{it:04}")).collect();
    let mut schedule = schedule(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (index, of) in (0..).zip(&names) {
        let life = Duration::from_secs(1_000_000 - index);
        let status = served(of, Duration::ZERO, life);
        schedule.get_mut(&name(of)).unwrap().status = Some(status);
    }
    let (reply, _answer) = oneshot::channel();
    schedule.get_mut(&name("c0000")).unwrap().ask(Asked::ByName, reply);
    let begun = schedule.due(at(0), 9, 4);
    assert_eq!(begun, ["c0000", "c0999", "c0998", "c0997"].map(name));
    assert!(schedule.due(at(0), 9, 0).is_empty());
}

#[test]
fn an_account_that_was_put_right_has_those_tried_that_wait_for_it() {
    let mut schedule = schedule(&["a", "b", "c"]);
    let lab: CaName = "lab".parse().unwrap();
    for (of, ca, code) in [
        ("a", "lab", "acme.account_refused"),
        ("b", "other", "acme.account_refused"),
        ("c", "lab", "acme.unavailable"),
    ] {
        let life = Duration::from_secs(1_000_000);
        let mut status = served(of, Duration::ZERO, life);
        status.failing_ca = Some(ca.parse().unwrap());
        status.error_code = Some(code.to_owned());
        let entry = schedule.get_mut(&name(of)).unwrap();
        entry.begin();
        tell(entry.end(at(1000)), of);
        entry.status = Some(status);
    }
    assert_eq!(schedule.due(at(0), 9, 9), []);
    schedule.account_mended(&lab);
    assert_eq!(schedule.due(at(0), 9, 9), [name("a")]);
    // And no sooner than what a human asked for.
    let (reply, _answer) = oneshot::channel();
    schedule.get_mut(&name("b")).unwrap().ask(Asked::ByName, reply);
    assert_eq!(schedule.due(at(0), 9, 1), [name("b")]);
    assert_eq!(schedule.get_mut(&name("a")).unwrap().begin(), Asked::ByName);
}

#[test]
fn who_asks_during_a_run_hears_of_the_next_one() {
    let mut schedule = schedule(&["a"]);
    let entry = schedule.get_mut(&name("a")).unwrap();
    entry.begin();
    let (reply, mut answer) = oneshot::channel();
    entry.ask(Asked::Forced, reply);
    let (second, _gone) = oneshot::channel();
    entry.ask(Asked::ByName, second);
    tell(entry.end(at(1000)), "a");
    assert!(answer.try_recv().is_err());
    assert_eq!(schedule.due(at(0), 9, 9), [name("a")]);
    let entry = schedule.get_mut(&name("a")).unwrap();
    assert_eq!(entry.begin(), Asked::Forced, "the stronger wish counts");
    tell(entry.end(at(1000)), "a");
    assert_eq!(answer.try_recv().unwrap().name, name("a"));
}

#[test]
fn of_wishes_that_no_single_run_can_do_none_is_dropped() {
    let runs = |wishes: &[Asked]| {
        let mut entry = Entry::default();
        let mut answers = Vec::new();
        for wish in wishes {
            let (reply, answer) = oneshot::channel();
            entry.ask(*wish, reply);
            answers.push(answer);
        }
        let mut runs = Vec::new();
        while !entry.wishes.is_empty() {
            runs.push(entry.begin());
            tell(entry.end(at(0)), "a");
        }
        assert!(answers.iter_mut().all(|it| it.try_recv().is_ok()), "all are told");
        runs
    };
    assert_eq!(runs(&[Asked::ByName, Asked::DeployPending]), [Asked::ByName]);
    assert_eq!(runs(&[Asked::DeployPending, Asked::ByName]), [Asked::ByName]);
    for both in [[Asked::ByTime, Asked::DeployPending], [Asked::Redeploy, Asked::ByName]] {
        assert_eq!(runs(&both), both);
    }
    let both = [Asked::Untrusted, Asked::Forced];
    assert_eq!(runs(&both), both);
    let all = [Asked::Untrusted, Asked::Redeploy, Asked::ForcedUntrusted, Asked::ByTime];
    assert_eq!(runs(&all), [Asked::ForcedUntrusted]);
}

#[test]
fn a_look_that_began_before_a_run_ended_does_not_undo_what_that_found() {
    let status = |of| served(of, Duration::ZERO, DAY);
    let found = |entry: &Entry| entry.status.as_ref().map(|it| it.name.to_string());
    let mut entry = Entry::default();
    entry.enter();
    tell(entry.end(at(0)), "a");

    // A run begins and ends while the pass looks; one that began before it is the same.
    let before = entry.ended();
    entry.begin();
    entry.looked(before, status("during"), at(5));
    assert_eq!(found(&entry), None);
    entry.status = Some(status("run"));
    tell(entry.end(at(1000)), "a");
    entry.looked(before, status("before"), at(5));
    assert_eq!((found(&entry), entry.wake_at), (Some("run".to_owned()), Some(at(1000))));

    entry.looked(entry.ended(), status("after"), at(900));
    assert_eq!((found(&entry), entry.wake_at), (Some("after".to_owned()), Some(at(900))));
}

#[test]
fn a_certificate_that_is_wanted_no_more_is_forgotten_when_its_work_ends() {
    let mut schedule = schedule(&["a", "b"]);
    schedule.get_mut(&name("a")).unwrap().begin();
    schedule.set_names(&BTreeSet::from([name("c")]));
    let left: Vec<_> = schedule.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(left, ["a", "c"]);
    let entry = schedule.get_mut(&name("a")).unwrap();
    tell(entry.end(at(1000)), "a");
    schedule.forget(&name("a"));
    assert!(schedule.get_mut(&name("a")).is_none());
}

#[test]
fn however_often_all_are_woken_those_that_fail_take_turns() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut schedule = schedule(&names);
    let all: BTreeSet<_> = names.iter().map(|it| name(it)).collect();
    let mut begun = Vec::new();
    for second in 0..6 {
        schedule.set_names(&all);
        for it in &names {
            let life = Duration::from_secs(1000);
            let status = failing(served(it, Duration::ZERO, life), life, "dns.not_visible");
            schedule.get_mut(&name(it)).unwrap().status = Some(status);
        }
        let due = schedule.due(at(second), 2, 1);
        let entry = schedule.get_mut(&due[0]).unwrap();
        entry.begin();
        tell(entry.end(at(second + 300)), due[0].as_str());
        begun.extend(due);
    }
    assert_eq!(begun.iter().cloned().collect::<BTreeSet<_>>(), all, "{begun:?}");
}

#[test]
fn a_clock_that_was_set_back_leaves_nobody_behind_those_who_had_a_turn_since() {
    let mut schedule = schedule(&["a", "b"]);
    for of in ["a", "b"] {
        let life = Duration::from_secs(1000);
        let entry = schedule.get_mut(&name(of)).unwrap();
        entry.status = Some(failing(served(of, Duration::ZERO, life), life, "dns.busy"));
        entry.begin();
        tell(entry.end(at(1_000_000)), of);
    }
    schedule.clock_was_set();
    assert_eq!(schedule.due(at(0), 2, 1), [name("a")]);
    let entry = schedule.get_mut(&name("a")).unwrap();
    entry.begin();
    tell(entry.end(at(300)), "a");
    assert_eq!(schedule.due(at(300), 2, 1), [name("b")]);
}

#[test]
fn each_had_its_turn_when_its_work_is_done_or_under_way() {
    let mut schedule = schedule(&["a", "b"]);
    assert!(!schedule.had_turns());
    schedule.get_mut(&name("a")).unwrap().begin();
    assert!(!schedule.had_turns(), "b waits");
    schedule.get_mut(&name("b")).unwrap().begin();
    assert!(schedule.had_turns());
    tell(schedule.get_mut(&name("a")).unwrap().end(at(100)), "a");
    assert!(schedule.had_turns());
}

#[test]
fn who_waits_too_long_for_a_turn_is_told_of() {
    let mut schedule = schedule(&["a", "b", "c"]);
    for (of, wake_at) in [("a", 100), ("b", 1000), ("c", 200)] {
        let entry = schedule.get_mut(&name(of)).unwrap();
        entry.begin();
        tell(entry.end(at(wake_at)), of);
    }
    let minutes = |it: i64| at(100 + 60 * it);
    let longest_wait = |schedule: &mut Schedule, now| {
        schedule.note_waits(now);
        schedule.longest_wait(now)
    };
    assert_eq!(longest_wait(&mut schedule, minutes(15)), None);
    assert_eq!(longest_wait(&mut schedule, minutes(16)), Some((1, at(100))));
    assert_eq!(longest_wait(&mut schedule, minutes(17)), Some((2, at(100))));
    schedule.get_mut(&name("a")).unwrap().begin();
    assert_eq!(longest_wait(&mut schedule, minutes(17)), Some((1, at(200))), "its turn has come");
}

/// A look finds what is due to be so at once, and a reload wakes all: neither makes a wait shorter.
#[test]
fn who_is_woken_and_looked_at_while_he_waits_waits_no_less() {
    let mut schedule = schedule(&["due", "woken", "failing"]);
    schedule.set_names(&["due", "woken", "failing", "new"].into_iter().map(name).collect());
    for (of, wake_at) in [("due", 100), ("woken", 9000), ("failing", 100)] {
        let entry = schedule.get_mut(&name(of)).unwrap();
        entry.begin();
        tell(entry.end(at(wake_at)), of);
    }
    schedule.get_mut(&name("failing")).unwrap().status =
        Some(failing(served("failing", DAY, 90 * DAY), DAY, "dns.change"));
    for now in (200..=1000).step_by(100) {
        let entry = schedule.get_mut(&name("due")).unwrap();
        let ended = entry.ended();
        entry.looked(ended, served("due", DAY, 90 * DAY), Timestamp::EPOCH);
        schedule.get_mut(&name("woken")).unwrap().wake();
        schedule.note_waits(at(now));
        assert_eq!(schedule.longest_wait(at(now)), None);
    }
    assert_eq!(schedule.longest_wait(at(1001)), Some((1, at(100))));
    assert_eq!(schedule.longest_wait(at(1101)), Some((3, at(100))), "woken and new ones too");
    schedule.clock_was_set();
    schedule.note_waits(at(5000));
    assert_eq!(schedule.longest_wait(at(5000)), None, "the old time says nothing");
}

#[test]
fn what_is_due_and_finds_no_slot_sleeps_instead_of_spinning() {
    let schedule = schedule(&["a", "b"]);
    assert_eq!(schedule.due(at(200), 9, 0), []);
    assert_eq!(schedule.due(at(200), 9, 1), [name("a")]);
    assert_eq!(schedule.sleep(at(200), Duration::from_secs(30)), Duration::from_secs(30));
}

#[test]
fn a_round_is_done_when_all_work_is() {
    let mut schedule = schedule(&["a", "b"]);
    for it in ["a", "b"] {
        assert!(!schedule.had_a_round());
        let entry = schedule.get_mut(&name(it)).unwrap();
        entry.begin();
        assert!(!schedule.had_a_round());
        tell(schedule.get_mut(&name(it)).unwrap().end(at(1000)), it);
    }
    assert!(schedule.had_a_round());
}

#[test]
fn a_change_during_a_run_is_looked_at_when_the_run_ends() {
    let mut schedule = schedule(&["a"]);
    let entry = schedule.get_mut(&name("a")).unwrap();
    entry.begin();
    entry.wake();
    tell(entry.end(at(1000)), "a");
    assert_eq!(schedule.due(at(1), 9, 9), [name("a")]);
    let entry = schedule.get_mut(&name("a")).unwrap();
    entry.begin();
    tell(entry.end(at(1000)), "a");
    assert_eq!(schedule.due(at(1), 9, 9), []);
}

#[test]
fn a_new_certificate_is_put_in_order_before_its_work_and_once() {
    let mut schedule = Schedule::default();
    schedule.set_names(&BTreeSet::from([name("a"), name("b")]));
    assert_eq!(schedule.due(at(0), 9, 9), []);
    assert_eq!(schedule.new_ones(1), [name("a")]);
    let entry = schedule.get_mut(&name("a")).unwrap();
    entry.enter();
    assert!(!schedule.is_whole());
    assert_eq!(schedule.new_ones(9), [name("b")]);
    for it in ["a", "b"] {
        tell(schedule.get_mut(&name(it)).unwrap().end(at(0)), it);
    }
    assert!(schedule.is_whole());
    assert_eq!(schedule.due(at(0), 9, 9), [name("a"), name("b")]);
    schedule.set_names(&BTreeSet::from([name("a"), name("b")]));
    assert_eq!(schedule.new_ones(9), []);
}

#[test]
fn breakdowns_of_one_kind_are_counted_in_a_row() {
    let mut entry = Entry::default();
    let failure = |at| Failure { at, code: String::new(), message: String::new(), hint: None };
    assert_eq!(entry.break_down(Breakdown::Panic, failure(at(1))), 1);
    assert_eq!(entry.break_down(Breakdown::Panic, failure(at(2))), 2);
    assert_eq!(entry.broken.as_ref().map(|it| it.since), Some(at(1)));
    assert_eq!(entry.break_down(Breakdown::Storage, failure(at(3))), 1);
}

#[test]
fn a_renewal_that_runs_is_said_to_unless_it_failed_before() {
    let mut schedule = schedule(&["a"]);
    let entry = schedule.get_mut(&name("a")).unwrap();
    let stands = |renewal| CertificateStatus {
        renewal,
        renew_at: Some(at(100)),
        ..served("a", DAY, 90 * DAY)
    };
    let mut shown = |renewal, asked: Option<Asked>, now: i64| {
        if let Some(asked) = asked {
            entry.ask(asked, oneshot::channel().0);
        }
        entry.status = Some(stands(renewal));
        let before = entry.running_status(at(now)).unwrap().renewal;
        assert_eq!(before, renewal, "nothing runs");
        entry.begin();
        let running = entry.running_status(at(now)).unwrap().renewal;
        tell(entry.end(at(now)), "a");
        running
    };
    use RenewalCondition::{BackingOff, Blocked, Due, Idle, Running};
    assert_eq!(shown(Due, None, 50), Running);
    assert_eq!(shown(Idle, None, 99), Idle);
    assert_eq!(shown(Idle, None, 100), Running);
    assert_eq!(shown(Idle, Some(Asked::Forced), 50), Running);
    assert_eq!(shown(Idle, Some(Asked::ByName), 50), Idle);
    assert_eq!(shown(Due, Some(Asked::Redeploy), 100), Due);
    for failed in [BackingOff, Blocked] {
        assert_eq!(shown(failed, Some(Asked::Forced), 100), failed);
    }
}
