//! What fuzzing feeds to dns-01: answers of DNS servers.

use hickory_proto::op::Message;
use hickory_proto::rr::Name;

use super::{name, propagation, rfc2136, zone};
use crate::model::{StandingRecord, Timestamp};

/// Reads `bytes` as the answer to a question about `_acme-challenge.www.example.com`, in whatever
/// sense answers are read.
pub fn message(bytes: &[u8]) {
    let Ok(answer) = Message::from_vec(bytes) else { return };
    let names = ["_acme-challenge.www.example.com.", "example.com."].map(Name::from_ascii);
    let [Ok(asked), Ok(apex)] = names else { return };
    if let Some(target) = zone::alias_of(&answer, &asked) {
        check_text(&target);
    }
    if let Some(below) = zone::delegation(&answer, &asked, &apex) {
        assert!(below != apex && apex.zone_of(&below) && below.zone_of(&asked), "{below}");
    }
    if let Some(denier) = zone::denier(&answer, &asked) {
        assert!(denier.zone_of(&asked), "{denier}");
    }
    for records in [&answer.answers, &answer.authorities] {
        zone::server_names(records).iter().for_each(check_text);
        for record in records {
            let _address = zone::address_of(&record.data);
        }
    }
    if let Some(values) = propagation::txt_values(&answer, &asked) {
        let wanted = StandingRecord::plain(vec!["ca.example".into()], "https://ca.example/1", true);
        let _state = wanted.judge(values.iter().map(String::as_str), Timestamp::EPOCH);
    }
    let _refusal = rfc2136::refusal(&answer);
}

/// What is journalled of a name leads back to it, or is refused.
fn check_text(found: &Name) {
    let text = name::text(found);
    assert!(text.is_ascii() && !text.contains(char::is_control), "{text:?}");
    let again = Name::from_ascii(format!("{text}."));
    assert!(again.ok().is_none_or(|it| it.to_lowercase() == found.to_lowercase()), "{text:?}");
}
