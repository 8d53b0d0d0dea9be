//! The texts as people get them, in full.

use std::time::Duration;

use super::*;
use crate::model::{Fingerprint, Notice, StandIn};
use crate::observe::alert::testing::{
    DAY, failing, failing_target, missing, served, start, status,
};

/// A machine with one certificate of each kind.
fn mixed() -> StatusDocument {
    let nginx = TargetStatus {
        state: EndpointCondition::Served,
        last_error: None,
        failures: 0,
        since: None,
        next_attempt_at: None,
        hint: None,
        endpoints: vec![EndpointState {
            address: "127.0.0.1:443".into(),
            name: "api.example.com".parse().unwrap(),
            state: EndpointCondition::Served,
            served_serial: Some("04:A1".into()),
            served_sha256: None,
            served_validity: None,
            served_suffices: false,
            checked_at: start(),
            ever_served: true,
            last_error: None,
        }],
        ..failing_target("nginx", DAY)
    };
    let postfix = failing_target("postfix", Duration::from_secs(3 * 3600));
    let api = CertificateStatus {
        targets: vec![nginx.clone()],
        ..served("api.example.com", 31 * DAY, 90 * DAY)
    };
    let mail = CertificateStatus {
        health: Health::Warning,
        condition: Condition::NotServed,
        reason: "not due: advice of the CA is 2026-12-29T03:00:00Z".into(),
        last_error: postfix.last_error.clone(),
        targets: vec![nginx, postfix],
        ..served("mail", DAY, 90 * DAY)
    };
    let late = CertificateStatus {
        health: Health::Critical,
        ..failing(served("wildcard.example.net", 82 * DAY, 90 * DAY), 22 * DAY, "acme.caa")
    };
    let new = CertificateStatus { reason: "nothing is held".into(), ..missing("new") };
    status(vec![api, mail, late, new])
}

const TABLE: &str = "\
NAME                  CONDITION   HEALTH    EXPIRES  RENEWS       TARGETS         NEXT/REASON
api.example.com       served      ok        in 59d   in 29d       nginx served    not due
mail                  not served  warning   in 89d   in 59d       nginx served    not due: advice of the CA is
                                                                  postfix failed  2026-12-29…
wildcard.example.net  served      critical  in 8d    backing off  -               next try in 10m
new                   missing     ok        -        due          -               nothing is held

";

const TROUBLES: &str = "\
warning: mail at postfix: 127.0.0.1:443 serves another certificate [deploy.not_served]
  for 3h, next try in 5m
  hint: see what holds the port
critical: wildcard.example.net: the CA refused the order [acme.caa]
  for 22d, next try in 10m
  hint: look at the CAA records
";

#[test]
fn a_table_has_a_line_for_each_certificate_and_an_entry_for_each_trouble() {
    let text = table(&mixed(), start(), Look { color: false, width: 120 });
    assert_eq!(text, format!("{TABLE}{TROUBLES}"), "\n{text}");
}

#[test]
fn that_a_certificate_came_from_a_stand_in_is_said_with_the_reason() {
    let stand_in = StandIn {
        certificate: Fingerprint::try_from("ab".repeat(32)).unwrap(),
        ca: "zerossl".parse().unwrap(),
        stands_in_for: "letsencrypt".parse().unwrap(),
        reason: "letsencrypt failed, and little of the life is left".into(),
        since: start(),
    };
    let certificate = CertificateStatus {
        ca: Some(stand_in.ca.clone()),
        stand_in: Some(stand_in),
        ..served("api", DAY, 90 * DAY)
    };
    let told =
        "\napi: from the stand-in zerossl: letsencrypt failed, and little of the life is left\n";
    let text = table(&status(vec![certificate.clone()]), start(), Look::default());
    assert!(text.ends_with(told), "{text}");
    let files = Files { current: Path::new("/certs/api/current"), paired: None, has_key: true };
    let text = show(&certificate, files, start(), Look::default());
    assert!(text.contains("zerossl, a stand-in for letsencrypt since "), "{text}");
}

#[test]
fn a_table_fits_its_width() {
    for width in [80, 100, 120] {
        let text = table(&mixed(), start(), Look { color: false, width });
        let (rows, _) = text.split_once("\n\n").unwrap();
        let longest = rows.lines().map(|it| it.chars().count()).max().unwrap();
        assert!(longest <= usize::from(width), "{longest} of {width}\n{text}");
        assert!(rows.contains("CONDITION") && rows.contains("critical"), "{text}");
    }
}

#[test]
fn colour_repeats_what_a_word_says() {
    let look = Look { color: true, width: 120 };
    let colored = table(&mixed(), start(), look);
    assert!(colored.contains("\u{1b}[") && colored.contains("critical"), "{colored:?}");
    assert!(!table(&mixed(), start(), Look { color: false, ..look }).contains('\u{1b}'));
}

#[test]
fn it_says_that_nobody_will_be_told_and_what_is_wrong_with_the_agent() {
    let mut document = status(Vec::new());
    let notice = |code: &str, message: &str| Notice {
        code: code.into(),
        health: Health::Warning,
        message: message.into(),
        since: start(),
        hint: Some("add an [[alert]]".into()),
    };
    document.notices = vec![notice("agent.silent", "nobody will be told of trouble")];
    assert_eq!(
        table(&document, start(), Look::default()),
        "No certificates are configured.\n\n\
         warning: nobody will be told of trouble\n  hint: add an [[alert]]\n"
    );
    document.notices[0].health = Health::Ok;
    assert_eq!(
        table(&document, start(), Look::default()),
        "No certificates are configured.\n\n\
         Nobody will be told of trouble: there is no [[alert]] and no heartbeat.\n"
    );
    document.notices[0].code = "state.on_a_network".into();
    assert_eq!(
        table(&document, start(), Look::default()),
        "No certificates are configured.\n\nNote: nobody will be told of trouble.\n"
    );
}

#[test]
fn what_strangers_sent_does_not_reach_the_terminal() {
    let mut document = mixed();
    document.certificates[2].last_error = Some("no\u{1b}[2J\nway".into());
    document.certificates[2].reason = "\u{1b}[31m".into();
    let text = table(&document, start(), Look::default());
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(text.contains("no\\u{1b}[2J way"), "{text}");
}

const SHOWN: &str = "\
name        api.example.com
domains     api.example.com.example.com
condition   served
health      ok
renewal     idle
reason      not due
not before  2026-10-23T10:00:00Z
not after   2027-01-21T10:00:00Z (in 59d)
renews      2026-12-22T10:00:00Z (in 29d)
ca          letsencrypt
issuer      Example Issuing CA R1
serial      04:A1
sha256      abababababababababababababababababababababababababababababababab
generation  0002

target nginx: served
  127.0.0.1:443 as api.example.com: served, serves serial 04:A1, asked at 2026-11-23T10:00:00Z

files
  /var/lib/renewd/certs/api/current/fullchain.pem
  /var/lib/renewd/certs/api/current/cert.pem
  /var/lib/renewd/certs/api/current/chain.pem
  /var/lib/renewd/certs/api/current/privkey.pem
  /var/lib/renewd/certs/api/current/combined.pem

nginx
  ssl_certificate /var/lib/renewd/certs/api/current/fullchain.pem;
  ssl_certificate_key /var/lib/renewd/certs/api/current/privkey.pem;

Apache
  SSLCertificateFile /var/lib/renewd/certs/api/current/fullchain.pem
  SSLCertificateKeyFile /var/lib/renewd/certs/api/current/privkey.pem

HAProxy
  bind :443 ssl crt /var/lib/renewd/certs/api/current/combined.pem

Postfix
  smtpd_tls_chain_files = /var/lib/renewd/certs/api/current/privkey.pem, /var/lib/renewd/certs/api/current/fullchain.pem

Dovecot
  ssl_cert = </var/lib/renewd/certs/api/current/fullchain.pem
  ssl_key = </var/lib/renewd/certs/api/current/privkey.pem
";

#[test]
fn one_certificate_is_shown_with_its_files_and_the_lines_for_servers() {
    let current = Path::new("/var/lib/renewd/certs/api/current");
    let files = Files { current, paired: None, has_key: true };
    let text = show(&mixed().certificates[0], files, start(), Look::default());
    assert_eq!(text, SHOWN, "\n{text}");
}

#[test]
fn of_a_pair_servers_are_told_of_both() {
    let name = "api.rsa".parse().unwrap();
    let files =
        Files { current: Path::new("/a"), paired: Some((&name, Path::new("/b"))), has_key: true };
    let text = show(&mixed().certificates[0], files, start(), Look::default());
    for part in [
        "pair        with api.rsa\n",
        "\nfiles\n  /a/fullchain.pem\n",
        "  ssl_certificate /a/fullchain.pem;\n  ssl_certificate_key /a/privkey.pem;\n  \
         ssl_certificate /b/fullchain.pem;\n  ssl_certificate_key /b/privkey.pem;\n",
        "  SSLCertificateKeyFile /a/privkey.pem\n  SSLCertificateFile /b/fullchain.pem\n",
        "bind :443 ssl crt /a/combined.pem crt /b/combined.pem\n",
        "= /a/privkey.pem, /a/fullchain.pem, /b/privkey.pem, /b/fullchain.pem\n",
        "  ssl_key = </a/privkey.pem\n  ssl_alt_cert = </b/fullchain.pem\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("  /b/"), "{text}");
}

#[test]
fn what_is_not_there_has_no_files() {
    let files = Files { current: Path::new("/x"), paired: None, has_key: true };
    let text = show(&missing("new"), files, start(), Look::default());
    assert!(!text.contains("/x/"), "{text}");
}

#[test]
fn where_the_key_is_elsewhere_no_file_of_it_is_named() {
    let files = Files { current: Path::new("/a"), paired: None, has_key: false };
    let text = show(&mixed().certificates[0], files, start(), Look::default());
    assert!(text.contains("/a/chain.pem\n\nThe key is elsewhere"), "{text}");
    assert!(!text.contains("privkey") && !text.contains("combined"), "{text}");
}

#[test]
fn what_a_ca_allows_is_told_with_what_is_left_and_when_there_is_more() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let limit = |limit: Limit, left, next_at| LimitStatus {
        limit: limit.as_str().to_owned(),
        about: "a.example".to_owned(),
        left,
        of: 5,
        per: "7d".to_owned(),
        next_at,
    };
    let next = Some(at("2026-11-24T14:10:00Z"));
    let mut told = AllowanceStatus {
        ca: "lab".parse().unwrap(),
        refused_until: None,
        refused_by: None,
        limits: vec![
            limit(Limit::CertificatesPerSet, 2, next),
            limit(Limit::FailedAuthorizations, 5, None),
            limit(Limit::NewOrders, 5, None),
        ],
    };
    told.limits[2].limit = "of_a_later_version".to_owned();
    assert_eq!(
        allowance(&told).unwrap(),
        "lab: 2 of 5 certificates for this set of names in 7d left, one more at \
         2026-11-24T14:10:00Z; 5 of 5 failed authorizations of a.example in 7d left; 5 of 5 \
         of_a_later_version in 7d left"
    );
    told.limits.clear();
    assert_eq!(allowance(&told), None);
    told.refused_until = next;
    let refused = "lab: would be refused until 2026-11-24T14:10:00Z";
    assert_eq!(allowance(&told).as_deref(), Some(refused));
}

#[test]
fn the_table_is_followed_by_what_little_a_ca_still_allows() {
    let next = Some(start());
    let limit = |left, next_at| LimitStatus {
        limit: "certificates_per_set".to_owned(),
        about: String::new(),
        left,
        of: 5,
        per: "7d".to_owned(),
        next_at,
    };
    let allowed = |refused_until, limit| AllowanceStatus {
        ca: "lab".parse().unwrap(),
        refused_until,
        refused_by: None,
        limits: vec![limit],
    };
    let mut document = mixed();
    document.certificates.truncate(1);
    let certificate = document.certificates[0].clone();
    let title = "Little is left of what the CA allows:";
    for (told, is_told) in [
        (allowed(None, limit(3, next)), false),
        (allowed(None, limit(2, None)), false),
        (allowed(None, limit(2, next)), true),
        (allowed(next, limit(5, None)), true),
    ] {
        document.certificates[0].allowance = Some(told.clone());
        let text = table(&document, start(), Look::default());
        assert_eq!(text.contains(title), is_told, "{told:?}\n{text}");
        let line = format!("\n  {}: {}\n", certificate.name, allowance(&told).unwrap());
        assert_eq!(text.contains(&line), is_told, "{told:?}\n{text}");
    }
    document.certificates = vec![document.certificates[0].clone(); MAX_SCARCE + 3];
    let text = table(&document, start(), Look::default());
    assert!(text.contains("\n  and 3 more: `renewd plan`\n"), "{text}");
}
