//! What every contender answers, but for `api-server`, which makes an answer of the same length for each client.

/// As long as `api-server`'s `/hello`.
pub(crate) const ANSWER: &str = r#"{"service":"service0","protocol":"HTTP/2.0","commonName":"client_1","serial":"5f0c2fd1a0e84bb19b2a4f0d7c3e6a55","names":["spiffe://fleet.example/client/client_1"],"notAfter":"2027-02-21 00:00:00Z","clientAddress":"127.0.0.1:40000"}"#;
