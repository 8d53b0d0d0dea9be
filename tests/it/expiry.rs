//! The example `examples/expiry.rs` against a real server. It is compiled in here, so that no test
//! depends on what another command has built.

use std::time::Duration;

use renewd::model::Validity;
use renewd::probe::{self, Approach};

use crate::support::{Nginx, NginxOptions};

#[path = "../../examples/expiry.rs"]
#[expect(dead_code, reason = "its main is for the command line")]
mod example;

use example::{Verdict, describe, question};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_example_tells_names_issuer_and_what_is_left_of_what_nginx_serves() {
    let nginx = Nginx::start(&NginxOptions::default());
    let arguments = [nginx.https().to_string(), "localhost".to_owned()];
    let (address, name) = question(&arguments).unwrap();
    let served = probe::ask(address, &name, Approach::default(), LIMIT).await.unwrap();
    let Validity { not_before, not_after } = served.leaf.validity;

    let (text, verdict) = describe(&served, not_before);
    assert_eq!(verdict, Verdict::Fine, "{text}");
    for part in ["names      localhost", "issuer     CN=", "100 % of its life"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let quarter = served.leaf.validity.lifetime() / 4;
    let second = Duration::from_secs(1);
    let verdict_at = |left| describe(&served, not_after.saturating_sub(left)).1;
    assert_eq!(verdict_at(quarter + second), Verdict::Fine);
    assert_eq!(verdict_at(quarter.saturating_sub(second)), Verdict::Worrying);
}

#[test]
fn the_name_to_ask_for_is_the_host_unless_it_is_given() {
    let name = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        question(&arguments).map(|(_, name)| name.to_string())
    };
    assert_eq!(name(&["www.example.com:443"]).as_deref(), Some("www.example.com"));
    assert_eq!(name(&["[2001:db8::1]:443"]).as_deref(), Some("2001:db8::1"));
    assert_eq!(name(&["192.0.2.7:443", "example.com"]).as_deref(), Some("example.com"));
    assert_eq!(name(&["example.com"]), None);
    assert_eq!(name(&[]), None);
}
