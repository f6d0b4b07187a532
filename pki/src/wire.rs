//! The JSON messages between the authority and its clients and relying parties.
//!
//! It never validates: fields are text, and the receiver parses each into a checked type.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{crl::CrlNumber, profile::Profile, renewal::Window, serial::Serial, time::Timestamp};

/// The path of the enrollment endpoint.
pub const ENROLL_PATH: &str = "/v1/enroll";

/// The path at which the holder of a certificate gets its successor, over a connection with the certificate itself.
pub const RENEW_PATH: &str = "/v1/renew";

/// The path at which the holder of a certificate asks when to renew it ([`RenewalAnswer`]), over a connection with the certificate itself.
pub const RENEWAL_PATH: &str = "/v1/renewal";

/// The path of the feed: an endless response with a line of JSON ([`FeedEvent`]) at once, whenever a CRL is published,
/// and as a heartbeat at least every [`FEED_HEARTBEAT`].
pub const FEED_PATH: &str = "/v1/feed";

/// The path at which a relying party reports what it enforces ([`Confirmation`]).
pub const CONFIRM_PATH: &str = "/v1/feed/confirm";

/// The path at which a relying party hands over the CRLs that it enforces, as PEM. It does so when a confirmation is
/// answered with 409 (Conflict). Then the authority does not know these numbers, because its database was restored from
/// an older copy, and it needs the CRLs that it has signed itself.
pub const HAND_OVER_PATH: &str = "/v1/feed/crls";

/// The path at which a relying party signs off: its listener is closed and its last connection has ended. The body is
/// empty. It need not confirm any more, and admits nobody until it is on the feed again.
pub const GOODBYE_PATH: &str = "/v1/feed/goodbye";

/// The header of every request below [`FEED_PATH`] that identifies the instance: its secret, as
/// [`Secret::to_bearer`](crate::token::Secret::to_bearer) writes it.
pub const INSTANCE_HEADER: &str = "instance";

/// The request header with which an instance opens the feed in place of earlier ones: their secrets, separated by
/// commas. In the response it has the ids of those that still have to confirm, because they are connected.
pub const PREDECESSORS_HEADER: &str = "instance-predecessors";

/// The most predecessors that one instance may name.
pub const MAX_PREDECESSORS: usize = 16;

/// The path at which a relying party asks from which number on lists contain what other numbers revoked ([`KnownQuestion`]).
pub const KNOWN_PATH: &str = "/v1/feed/known";

/// The most numbers of one list that are asked about together; where there are more, nothing is vouched for.
pub const KNOWN_NUMBERS: usize = 16;

/// The media type of PEM.
pub const PEM: &str = "application/x-pem-file";

/// The path at which a relying party answers a roll call ([`RollCallAnswer`]).
pub const ROLL_CALL_PATH: &str = "/v1/feed/roll-call";

/// The most certificates that one answer to a roll call names.
pub const ROLL_CALL_CERTIFICATES: usize = 20_000;

/// The longest time without a line on a feed.
pub const FEED_HEARTBEAT: Duration = Duration::from_secs(5);

/// The media type of a feed.
pub const NDJSON: &str = "application/x-ndjson";

/// The media type of an error (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The problem type of an enrollment that is denied because its public key was revoked for compromise. A new key is
/// needed.
pub const KEY_COMPROMISED: &str = "/problems/key-compromised";

/// The body of `POST /v1/enroll`; the token's secret is the request's bearer token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrollRequest {
    /// The kind of certificate wanted.
    pub profile: Profile,
    /// The certificate signing request, PEM.
    pub csr: String,
}

/// The body of `POST /v1/renew`. Of the request only the key is taken: profile, subject and names are those of the certificate with which
/// the connection was opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    /// The certificate signing request, PEM.
    pub csr: String,
}

/// The answer to `GET /v1/renewal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalAnswer {
    /// When to renew the certificate with which the connection was opened.
    pub renewal: Window,
}

/// The answer to `POST /v1/enroll` and to `POST /v1/renew`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollResponse {
    /// The certificate and after it the issuing CA's, PEM.
    pub chain: String,
    /// The root certificate, PEM; to be believed only if it has the token's fingerprint, or is the one that is trusted already.
    pub root: String,
    /// When to renew the certificate; an authority of before that could renew says nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub renewal: Option<Window>,
}

/// The existing CRLs, by the URLs of their distribution points in certificates. They are hints: a CRL is accepted only
/// by its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedEvent {
    /// Distribution point to what lies there.
    pub crls: BTreeMap<String, Current>,
    /// The number of the last order to renew certificates before it is time. A relying party that sees a new one asks at
    /// [`RENEWAL_PATH`] whether it is meant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub renewal_order: Option<u64>,
    /// A question: who is connected right now? Each id is answered once on each stream; a relying party that has never
    /// heard of roll calls passes over it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub roll_call: Option<u64>,
}

/// The lists of one issuer that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Current {
    /// The newest number, be it the complete CRL's or the delta's.
    pub number: CrlNumber,
    /// The complete CRL; where revocations are many, it is signed later than the delta.
    pub complete: Listing,
    /// The delta, if the issuer has any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delta: Option<Listing>,
}

/// One list, as the authority serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Where it lies on the authority's HTTPS listener.
    pub path: String,
    /// Its number.
    pub number: CrlNumber,
    /// How many bytes it has; unknown for a list that an older program signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// The SHA-256 digest of these bytes, written as a [`Fingerprint`](crate::certificate::Fingerprint) is; unknown as the size is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
}

/// The body of `POST /v1/feed/known`: the numbers of the CRLs that the enforced state was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownQuestion {
    /// Distribution point to numbers, [`KNOWN_NUMBERS`] at most.
    pub crls: BTreeMap<String, Vec<CrlNumber>>,
}

/// The answer to a [`KnownQuestion`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownAnswer {
    /// Distribution point to the number from which on every list contains what all of these numbers revoked, but for certificates
    /// that have ended. None: the authority does not know all of them, and wants the lists handed over.
    pub crls: BTreeMap<String, Option<CrlNumber>>,
}

/// The clients that are connected to a relying party at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollCallAnswer {
    /// The roll call that is answered.
    pub id: u64,
    /// The issuer's distinguished name, as text, to its certificates, to how many open connections have each in their
    /// peer's chain: an issuing CA's certificate counts the connections of everybody beneath it.
    pub connections: BTreeMap<String, BTreeMap<Serial, u64>>,
    /// How many connections are open.
    pub open_connections: u64,
    /// How many certificates were left out because there are more than [`ROLL_CALL_CERTIFICATES`].
    pub omitted: u64,
}

/// What a relying party enforces from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmation {
    /// Distribution point to the number of the CRL in force.
    pub crls: BTreeMap<String, CrlNumber>,
    /// The last second in which clients are judged by the first of them to become stale (nextUpdate and any grace); everybody is
    /// refused from then on.
    pub admits_until: Option<Timestamp>,
    /// How much of that is grace: for how many seconds clients are judged by a CRL that is stale.
    #[serde(default)]
    pub grace: u64,
    /// How many open connections this instance has ended since its start.
    pub ended: u64,
    /// How many connections are open now.
    pub open_connections: u64,
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// Which kind of problem: a URI reference that does not change, such as `/problems/token-expired`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request, and what to do next.
    pub detail: String,
}
