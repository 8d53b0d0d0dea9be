//! What Pebble was asked, read from its log.

/// A resource of Pebble (RFC 8555 §7.1, RFC 9773 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `directory`.
    Directory,
    /// `newNonce`.
    NewNonce,
    /// `newAccount`.
    NewAccount,
    /// An account.
    Account,
    /// `newOrder`.
    NewOrder,
    /// An order.
    Order,
    /// An authorization.
    Authorization,
    /// A challenge.
    Challenge,
    /// `finalize` of an order.
    Finalize,
    /// A certificate, and its alternates.
    Certificate,
    /// `renewalInfo` of a certificate.
    RenewalInfo,
    /// `revokeCert`.
    Revoke,
    /// `keyChange`.
    KeyChange,
    /// Anything else.
    Other,
}

/// The paths that Pebble gives them; longer ones first where one begins with another.
const PATHS: [(&str, Endpoint); 13] = [
    ("/dir", Endpoint::Directory),
    ("/nonce-plz", Endpoint::NewNonce),
    ("/sign-me-up", Endpoint::NewAccount),
    ("/my-account/", Endpoint::Account),
    ("/order-plz", Endpoint::NewOrder),
    ("/my-order/", Endpoint::Order),
    ("/authZ/", Endpoint::Authorization),
    ("/chalZ/", Endpoint::Challenge),
    ("/finalize-order/", Endpoint::Finalize),
    ("/certZ/", Endpoint::Certificate),
    ("/draft-ietf-acme-ari-03/renewalInfo/", Endpoint::RenewalInfo),
    ("/revoke-cert", Endpoint::Revoke),
    ("/rollover-account-key", Endpoint::KeyChange),
];

/// One request that Pebble has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD` or `POST`.
    pub method: String,
    /// The path, with the object's id.
    pub path: String,
}

impl Request {
    /// Reads one line of Pebble's log, if it is about a request.
    fn parse(line: &str) -> Option<Self> {
        let (request, _) = line.split_once(" -> calling handler")?;
        let mut words = request.rsplit(' ');
        let path = words.next()?.to_owned();
        Some(Self { method: words.next()?.to_owned(), path })
    }

    /// What it was for.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let found = PATHS.iter().find(|(prefix, _)| self.path.starts_with(prefix));
        found.map_or(Endpoint::Other, |(_, endpoint)| *endpoint)
    }
}

/// The requests that Pebble has seen, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(pub Vec<Request>);

impl Requests {
    /// Reads Pebble's `log`.
    ///
    /// Without the orders that it refused by a fault of its own: it finds no certificate to replace
    /// whose serial number begins with a byte from 0x80 on (letsencrypt/pebble issue 550), one in 512
    /// as its numbers are made. renewd orders without `replaces` then, at once.
    #[must_use]
    pub fn read(log: &str) -> Self {
        let mut all: Vec<Request> = log.lines().filter_map(Request::parse).collect();
        let is_order = |it: &Request| it.endpoint() == Endpoint::NewOrder;
        let asked = all.iter().filter(|it| is_order(it)).count();
        let added = log.lines().filter(|it| it.contains(" Added order ")).count();
        let unknown = log.lines().filter(|it| is_issued_with_high_byte(it)).count();
        for _ in 0..unknown.min(asked.saturating_sub(added)) {
            let twice = all.windows(2).position(|it| it.iter().all(is_order));
            twice.map(|it| all.remove(it));
        }
        Self(all)
    }

    /// How many there were to `endpoint`; those that Pebble refused are counted too.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.0.iter().filter(|it| it.endpoint() == endpoint).count()
    }

    /// How many belong to orders: from `newOrder` to the download.
    #[must_use]
    pub fn order_flow(&self) -> usize {
        use Endpoint::{Authorization, Certificate, Challenge, Finalize, NewOrder, Order};
        let flow = [NewOrder, Order, Authorization, Challenge, Finalize, Certificate];
        flow.into_iter().map(|endpoint| self.count(endpoint)).sum()
    }
}

/// Whether `line` says that a certificate was issued whose serial number has its first bit set, in as
/// many bytes as it needs.
fn is_issued_with_high_byte(line: &str) -> bool {
    let issued = line.split_once(" Issued certificate serial ");
    let serial = issued.and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
    serial.len().is_multiple_of(2) && serial.starts_with(['8', '9', 'a', 'b', 'c', 'd', 'e', 'f'])
}
