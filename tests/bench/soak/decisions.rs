//! What renewd decides by, for fleets of ten thousand: `plan` on the state of each certificate,
//! with everything in memory, at a CA that is reduced to its answers and its limits.
//!
//! The steps between decision and answer (protocol, proofs, files) are [`super::stack`]'s.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use renewd::config::{self, Environment};
use renewd::model::{
    self, CertificateId, CertificateSpec, CertificateState, Failure, Fault, Fingerprint,
    Generation, Held, Identifier, KeyType, Leaf, LedgerRecord, OrderEnd, OrderKind, OrderWish,
    Origin, PrivateKey, RenewalInfo, Retry, Share, SuggestedWindow, Timestamp, Validity,
};
use renewd::plan::backoff::{Jitter, after_ca_failure};
use renewd::plan::clock::Standing;
use renewd::plan::{
    Asked, Candidate, HeldChain, Holding, Observed, Renewal, WantedCa, decide_renewal, ledger,
    suggestion,
};

use super::{DAY, Fate, Figures, OUTAGE, profile, usual, was_gone};
use crate::ca::{Buckets, Limit, Limits, STARTED};
use crate::support::write;

/// One certificate and what is remembered of it.
struct One {
    spec: CertificateSpec,
    held: Held,
    state: CertificateState,
    life: Duration,
    /// Whether the CA wants it replaced now.
    is_recalled: bool,
    orders_today: (u32, u64),
}

/// The CA, as far as decisions see it.
struct Ca {
    wanted: Vec<WantedCa>,
    limits: Limits,
    buckets: Buckets,
    random: fastrand::Rng,
    gone: Timestamp,
    /// What we know of its limits, and count of them.
    known: model::Limits,
    ledger: LedgerRecord,
}

/// What an attempt may come to.
enum Answer {
    Issued,
    /// It was not taken.
    NotPlaced(Retry),
    /// A proof was not seen.
    Unproven,
    Failed(Retry),
}

impl Answer {
    const fn retry(&self) -> Retry {
        match self {
            Self::NotPlaced(retry) | Self::Failed(retry) => *retry,
            Self::Unproven | Self::Issued => Retry::BackOff,
        }
    }
}

/// The CA's limits as we know them: Let's Encrypt's.
fn known_limits() -> model::Limits {
    let rate = |text: &str| text.parse().unwrap();
    let rates = [
        (model::Limit::CertificatesPerSet, rate("5/7d")),
        (model::Limit::FailedAuthorizations, rate("5/1h")),
    ];
    model::Limits {
        directory: "https://ca.example/directory".to_owned(),
        rates: rates.into(),
        exempts_replacements: true,
        exempts_renewals: true,
    }
}

impl Ca {
    fn new(wanted: Vec<WantedCa>, random: fastrand::Rng, gone: Timestamp) -> Self {
        Self {
            wanted,
            limits: Limits::lets_encrypt(),
            buckets: Buckets::default(),
            random,
            gone,
            known: known_limits(),
            ledger: LedgerRecord::default(),
        }
    }

    fn is_gone(&self, now: Timestamp) -> bool {
        self.gone <= now && now < self.gone.saturating_add(OUTAGE)
    }

    /// An order for `spec`, which replaces a certificate by name or not.
    fn order(&mut self, spec: &CertificateSpec, replaces: bool, now: Timestamp) -> Answer {
        if self.is_gone(now) {
            return Answer::NotPlaced(Retry::BackOff);
        }
        let set = spec.identifiers.first().map(Identifier::value).unwrap_or_default();
        for limit in [Limit::Failures, Limit::PerSet] {
            let counts = limit == Limit::Failures || !replaces;
            if counts && let Some(wait) = self.buckets.wait(&self.limits, limit, &set, now) {
                return Answer::NotPlaced(Retry::NotBefore(now.saturating_add(wait)));
            }
        }
        match self.random.u32(0..1000) {
            // No answer, 5xx, garbage, a wrong certificate: the ladder.
            0..60 => Answer::Failed(Retry::BackOff),
            // A proof was not seen.
            60..80 => {
                self.buckets.take(&self.limits, Limit::Failures, &set, now);
                Answer::Unproven
            }
            // Overloaded, with a time.
            80..90 => Answer::Failed(Retry::NotBefore(now.saturating_add(DAY / 24))),
            // Something that only a human could mend, as it seems.
            90..95 => Answer::Failed(Retry::AfterChange),
            _ => {
                self.buckets.take(&self.limits, Limit::PerSet, &set, now);
                Answer::Issued
            }
        }
    }

    /// The same, counted in our ledger as renewd counts it.
    fn order_counted(&mut self, one: &One, now: Timestamp) -> Answer {
        // A CA that does not take it for a replacement counts it.
        let kind = OrderKind { replaces: self.random.u32(0..10) > 0, ..one.wish().kind };
        let wish = OrderWish { kind, ..one.wish() };
        let (identifiers, life) = (wish.identifiers, wish.lifetime);
        let mut record = std::mem::take(&mut self.ledger);
        let known = self.known.clone();
        ledger::tidy(&mut record, now);
        ledger::spend_order(&mut record, &known, &wish, now);
        ledger::spend_proof(&mut record, &known, identifiers, life, now);
        let answer = self.order(&one.spec, kind.replaces, now);
        if !matches!(answer, Answer::NotPlaced(_)) {
            ledger::settle_replacement(&mut record, &known, &wish, now);
        }
        if !matches!(answer, Answer::Unproven) {
            ledger::give_proof_back(&mut record, &known, identifiers, life, now, now);
        }
        let plain = OrderWish { kind: OrderKind { replaces: false, ..kind }, ..wish };
        match answer {
            Answer::Issued => ledger::note_proven(&mut record, identifiers),
            Answer::NotPlaced(_) => {
                ledger::give_order_back(&mut record, &known, &plain, OrderEnd::NotPlaced, now, now);
            }
            Answer::Unproven | Answer::Failed(_) => {
                ledger::give_order_back(
                    &mut record,
                    &known,
                    &wish,
                    OrderEnd::MaybePlaced,
                    now,
                    now,
                );
            }
        }
        self.ledger = record;
        answer
    }

    /// What it says of `one`; an error is `None`.
    fn advice(&mut self, one: &One, now: Timestamp) -> Option<RenewalInfo> {
        if self.is_gone(now) || self.random.u32(0..100) < 5 {
            return None;
        }
        let validity = one.held.leaf.validity;
        let window = if one.is_recalled {
            SuggestedWindow::new(now.saturating_sub(DAY * 2), now.saturating_sub(DAY))
        } else if self.random.u32(0..200) == 0 {
            // Of no sense.
            SuggestedWindow::new(Timestamp::EPOCH, Timestamp::MAX)
        } else {
            let middle = usual(validity.not_before, validity.not_after);
            let half = validity.lifetime() / 50;
            SuggestedWindow::new(middle.saturating_sub(half), middle.saturating_add(half))
        };
        let poll_after = Some(Duration::from_hours(self.random.u64(1..24)));
        Some(RenewalInfo { suggested_window: window, explanation_url: None, poll_after })
    }
}

impl One {
    /// A certificate of the CA that came at `at`.
    fn held(&self, number: u64, at: Timestamp) -> Held {
        let not_before = at.saturating_sub(Duration::from_hours(1));
        let validity = Validity { not_before, not_after: not_before.saturating_add(self.life) };
        let serial = number.to_be_bytes().to_vec();
        let sha256 = Fingerprint::of(&serial);
        let leaf = Leaf { serial, sha256, validity, ..self.held.leaf.clone() };
        let origin = self.held.origin.clone();
        let origin = origin.map(|it| Origin { issued_at: at, ..it });
        Held { leaf, origin, ..self.held.clone() }
    }

    /// The order for the next one.
    fn wish(&self) -> OrderWish<'_> {
        OrderWish {
            identifiers: &self.spec.identifiers,
            kind: OrderKind { replaces: true, renews: true, by_hand: false },
            lifetime: Some(self.life),
        }
    }

    fn decide(&self, ca: &Ca, now: Timestamp) -> Renewal {
        let id = CertificateId::of(&self.held.leaf);
        let known = |it: &WantedCa| self.state.cas.get(&it.name);
        // As if the CA might not take it for a replacement, as one in ten.
        let plain = OrderKind { replaces: false, ..self.wish().kind };
        let wish = OrderWish { kind: plain, ..self.wish() };
        let refusal = ledger::refusal(&ca.ledger, &ca.known, &wish, now);
        let refusals: Vec<_> =
            refusal.into_iter().map(|it| (ca.wanted[0].name.clone(), it)).collect();
        let candidates: Vec<Candidate<'_>> = (ca.wanted.iter())
            .map(|it| Candidate {
                ca: it,
                known: known(it),
                refused_until: refusals.first().map(|(_, it)| it.until),
                has_order: false,
                was_just_asked: false,
            })
            .collect();
        let observed = Observed {
            holding: Holding::Certificate(&self.held),
            cas: &candidates,
            ours: &self.state.ours,
            ours_fault: self.state.ours_fault,
            attempts_are_for_this: true,
            warning: Share::new(1, 4),
            selected_renewal: id
                .and_then(|id| suggestion::selected_renewal(&id, self.state.suggestion.as_ref())),
            chain: HeldChain::Settled,
            withdrawn: None,
            refusals: &refusals,
            doubt: None,
            clock: Standing::Steady,
        };
        decide_renewal(&self.spec, &observed, Asked::ByTime, now)
    }

    fn fail(&mut self, ca: &Ca, retry: Retry, jitter: Jitter, now: Timestamp) {
        let left = self.held.leaf.validity.life_left(now);
        let fault = match retry {
            Retry::AfterChange => Fault::Refusal,
            Retry::BackOff | Retry::NotBefore(_) => Fault::Outage,
        };
        let asked = &ca.wanted[0];
        self.state.begin(Some("soak"), Some(&asked.name));
        let failures = self.state.tries(fault, &asked.directory).failures;
        let rung = match retry {
            Retry::AfterChange => u32::MAX,
            _ => failures.saturating_add(1),
        };
        let pause = after_ca_failure(rung, Some(left), jitter);
        let failure = Failure { at: now, code: "soak".into(), message: String::new(), hint: None };
        self.state.fail(&failure, fault, &asked.directory, (retry, pause));
    }

    /// Asks for advice if it is time; says when the next time is.
    fn ask(&mut self, ca: &mut Ca, figures: &mut Figures, now: Timestamp) -> Timestamp {
        let Some(id) = suggestion::asked_about(&self.held, now) else { return Timestamp::MAX };
        let next = suggestion::next_poll_at(&id, self.state.suggestion.as_ref(), now);
        if next > now {
            return next;
        }
        figures.polls += 1;
        let luck = Jitter::new(ca.random.f64() * 2.0 - 1.0);
        let known = self.state.suggestion.as_ref();
        let learnt = match ca.advice(self, now) {
            Some(info) => {
                let leaf = &self.held.leaf;
                suggestion::learn(id, known, &info, leaf, luck, now).suggestion
            }
            None => suggestion::miss(id, known, &self.held.leaf, true, None, now),
        };
        let next = learnt.next_poll_at;
        self.state.suggestion = Some(learnt);
        next
    }
}

/// One spec and what it may hold, by the configuration's own reading.
fn template() -> (CertificateSpec, Vec<WantedCa>, Held) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = folder.path().join("renewd.toml");
    let directory = "http://127.0.0.1:1/dir";
    let text = format!(
        "terms_of_service_agreed = true\ndefault_ca = \"lab\"\n[ca.lab]\ndirectory = {directory:?}\n\
         [[certificate]]\ndomains = [\"a.example\"]\ntargets = []\n"
    );
    write(&file, text);
    let config = config::load(&file, &Environment::default());
    let spec = config.unwrap_or_else(|faults| panic!("{faults}")).certificates.remove(0);
    let name = spec.cas[0].clone();
    let wanted = WantedCa {
        name: name.clone(),
        directory: directory.into(),
        test: false,
        wants_proof: true,
    };
    let key = PrivateKey::generate(KeyType::P256).unwrap();
    let chain = renewd::local_ca::placeholder(&spec.identifiers, &key, Timestamp::EPOCH).unwrap();
    let mut leaf = chain.leaf;
    leaf.authority_key_identifier = Some(vec![7; 20]);
    let origin = Origin {
        ca: name,
        directory: directory.into(),
        profile: None,
        preferred_chain: None,
        key_type: KeyType::P256,
        issued_at: Timestamp::EPOCH,
        order_url: None,
        csr: None,
        test: false,
    };
    let held = Held {
        generation: Some(Generation(1)),
        leaf,
        needs_issuer: false,
        origin: Some(origin),
        directory: "/nowhere".into(),
    };
    (spec, vec![wanted], held)
}

fn fleet(fate: Fate, started: Timestamp, random: &mut fastrand::Rng) -> (Vec<One>, Vec<WantedCa>) {
    let (spec, wanted, held) = template();
    let mut fleet = Vec::new();
    for index in 0..fate.certificates {
        let identifiers: Vec<Identifier> = vec![format!("c{index}.example").parse().unwrap()];
        let mut one = One {
            spec: CertificateSpec {
                name: format!("c{index}").parse().unwrap(),
                identifiers,
                ..spec.clone()
            },
            held: held.clone(),
            state: CertificateState::default(),
            life: DAY * profile(index).1,
            is_recalled: false,
            orders_today: (0, 0),
        };
        one.held.leaf.identifiers = one.spec.identifier_set();
        // A fleet that has been running: ages of all kinds, before the usual moment.
        let age = (one.life / 3).mul_f64(random.f64());
        one.held = one.held(u64::try_from(index).unwrap(), started.saturating_sub(age));
        fleet.push(one);
    }
    (fleet, wanted)
}

/// Lives through `fate`; calls `told` once each simulated day.
pub(crate) fn live(fate: Fate, mut told: impl FnMut(u32, &Figures)) -> Figures {
    let started: Timestamp = STARTED.parse().unwrap();
    let on = |day: u32| started.saturating_add(DAY * day);
    let mut random = fastrand::Rng::with_seed(fate.seed);
    let (mut fleet, wanted) = fleet(fate, started, &mut random);
    let mut ca = Ca::new(wanted, random, on(fate.outage));
    let mut figures = Figures::default();
    let mut wakes: BinaryHeap<Reverse<(Timestamp, usize)>> =
        (0..fleet.len()).map(|index| Reverse((started, index))).collect();
    let (mut day, mut numbers) = (0, u64::try_from(fleet.len()).unwrap());
    let mut recalled = BTreeMap::new();
    while let Some(Reverse((now, index))) = wakes.pop() {
        if now >= on(fate.days) {
            break;
        }
        while now >= on(day + 1) {
            day += 1;
            ca.buckets.prune(&ca.limits, now);
            if day % 20 == 0 {
                figures.note_footprint(day);
            }
            if day == fate.incident {
                fleet.iter_mut().step_by(3).for_each(|it| it.is_recalled = true);
                recalled.extend((0..fleet.len()).step_by(3).map(|it| (it, now)));
            }
            told(day, &figures);
        }
        let one = &mut fleet[index];
        figures.works += 1;
        if matches!(one.decide(&ca, now), Renewal::Issue(_)) {
            figures.orders += 1;
            if one.orders_today.0 != day {
                one.orders_today = (day, 0);
            }
            // Where nobody answers, nobody is burdened.
            one.orders_today.1 += u64::from(!ca.is_gone(now));
            figures.orders_a_day = figures.orders_a_day.max(one.orders_today.1);
            match ca.order_counted(one, now) {
                Answer::Issued => {
                    numbers += 1;
                    figures.issued += 1;
                    note_end(&mut figures, one, ca.gone, now);
                    one.held = one.held(numbers, now);
                    one.is_recalled = false;
                    recalled.remove(&index);
                    one.state.begin(Some("soak"), Some(&ca.wanted[0].name));
                    one.state.succeed(now);
                }
                answer => {
                    let retry = answer.retry();
                    figures.failures += 1;
                    let jitter = Jitter::new(ca.random.f64() * 2.0 - 1.0);
                    one.fail(&ca, retry, jitter, now);
                }
            }
        }
        let next_poll = one.ask(&mut ca, &mut figures, now);
        let next = match one.decide(&ca, now) {
            Renewal::Keep { renew_at, .. } => renew_at,
            Renewal::Issue(_) => now,
            Renewal::BackOff { until, .. } => until,
            Renewal::Blocked { until, .. } => until.unwrap_or(Timestamp::MAX),
        };
        wakes.push(Reverse((
            next.min(next_poll).max(now.saturating_add(Duration::from_secs(1))),
            index,
        )));
    }
    for one in &fleet {
        if one.held.leaf.validity.has_expired(on(fate.days)) {
            figures.lost.push(format!("{} for good", one.spec.name));
        }
    }
    assert!(recalled.is_empty(), "recalled and still there: {}", recalled.len());
    figures.limited = ca.buckets.refused.values().sum();
    figures
}

/// Notes whether what `one` holds ended before it was replaced `now`, and whose fault that is.
fn note_end(figures: &mut Figures, one: &One, gone: Timestamp, now: Timestamp) {
    let Validity { not_before, not_after } = one.held.leaf.validity;
    if not_after >= now {
        return;
    }
    if was_gone(usual(not_before, not_after), not_after, gone) {
        figures.lost_to_outages += 1;
    } else {
        figures.lost.push(format!("{} at {not_after}, by {now}", one.spec.name));
    }
}
