//! The command line of the service, and the configuration that follows from it.
//!
//! It never reads a file.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use ipnet::IpNet;
use mtls::{
    authority::{IdentityFiles, TokenSources, TokenText},
    relying_party::Options,
    revocation::OnStaleCrl,
    serve::proxy::ProxyFrom,
};
use pki::{
    name::{CommonName, Host},
    profile::Profile,
};

/// A service behind the balancer. GET /hello answers who the client is. Clients with a revoked certificate are refused.
///
/// The first start enrolls with a token. Later starts use the certificate on disk. It is renewed in time.
#[derive(Debug, Parser)]
#[command(
    name = "api-server",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes:\n  0  stopped by a signal\n  1  something broke\n  2  bad usage\n\nExamples:\n  api-server --name service0\n  api-server --name service1 --token-file service1.token --host service1.fleet --listen 0.0.0.0:8443 --proxy-protocol-from 10.0.0.2/32\n\nEnvironment:\n  CA_TOKEN  an enrollment token, where no flag gives one\n  API_LOG   what is logged to standard error: error, warn, info, debug (default: info)"
)]
pub struct Arguments {
    /// A command to run instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The service's name: the common name of its certificate, and `service` in the answer of /hello
    #[arg(long, default_value = "service0")]
    name: CommonName,

    /// The directory of its certificate, key and CRLs [default: the name]
    #[arg(long)]
    dir: Option<PathBuf>,

    /// The address for clients or the balancer (HTTPS)
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,

    /// The address of /readyz, /healthz and /metrics (plain HTTP)
    #[arg(long, default_value = "127.0.0.1:8081")]
    ops_listen: SocketAddr,

    /// The directory of a CA on this machine; its bootstrap token is used [default: ca, unless `CA_TOKEN` is set]
    #[arg(long)]
    ca_dir: Option<PathBuf>,

    /// The enrollment token; a file is safer, because other users of the machine can read arguments
    #[arg(long, conflicts_with_all = ["token_file", "ca_dir"])]
    token: Option<TokenText>,

    /// A file that contains the enrollment token
    #[arg(long, conflicts_with = "ca_dir")]
    token_file: Option<PathBuf>,

    /// A DNS name or address of the service; may be repeated [default: localhost 127.0.0.1]
    #[arg(long = "host")]
    hosts: Vec<Host>,

    /// A network of balancers that send the PROXY protocol, version 2; may be repeated
    #[arg(long, value_name = "CIDR")]
    proxy_protocol_from: Vec<IpNet>,

    /// How often CRLs are fetched
    #[arg(long, default_value = "1s", value_parser = parse_interval)]
    crl_refresh: Duration,

    /// What to do when a CRL is stale: `refuse` clients, or `grace=2h` to use it for two more hours and then refuse
    #[arg(long, default_value = "refuse", value_name = "refuse|grace=DURATION", value_parser = parse_on_stale_crl)]
    on_stale_crl: OnStaleCrl,

    /// How long a service that shuts down still accepts connections after it reports that it is not ready; at least the
    /// time that its balancer needs to notice
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    drain_delay: Duration,

    /// Print the line with the listening addresses as JSON
    #[arg(long)]
    pub json: bool,
}

/// The commands besides serving.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Check whether a running service on this machine is ready; the exit code is 0 if it is
    #[command(after_help = "Examples:\n  api-server healthcheck --ops-listen 127.0.0.1:8082")]
    Healthcheck {
        /// The address of the service's /readyz
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
        ops_listen: SocketAddr,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  api-server completions bash > /etc/bash_completion.d/api-server")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The completion script for this shell.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "api-server", &mut script);
    // clap_complete spells the hyphen in two ways in its script for bash. Unchanged, only the first word would be
    // completed.
    String::from_utf8_lossy(&script).replace("api__subcmd__server", "api__server")
}

/// The configuration of a service.
#[derive(Debug)]
pub struct Config {
    /// The service's name.
    pub name: CommonName,
    /// The files of its identity.
    pub files: IdentityFiles,
    /// The places to find a token for enrolling.
    pub tokens: TokenSources,
    /// Its hosts. If empty, [`Host::local`] applies.
    pub hosts: Vec<Host>,
    /// The address for clients.
    pub listen: SocketAddr,
    /// The address for operators.
    pub ops_listen: SocketAddr,
    /// The time between readiness off and the end of listening.
    pub drain_delay: Duration,
    /// How it verifies its clients.
    pub options: Options,
}

impl Arguments {
    /// Converts the arguments.
    #[must_use]
    pub fn into_config(self) -> Config {
        let directory = self.dir.unwrap_or_else(|| PathBuf::from(self.name.as_str()));
        let files = IdentityFiles::new(&directory, Profile::Server);
        Config {
            files: files.clone(),
            tokens: TokenSources {
                text: self.token,
                file: self.token_file,
                ca_directory: self.ca_dir,
                environment: TokenText::from_environment(),
            },
            hosts: self.hosts,
            listen: self.listen,
            ops_listen: self.ops_listen,
            drain_delay: self.drain_delay,
            options: Options {
                crl_refresh: self.crl_refresh,
                on_stale_crl: self.on_stale_crl,
                proxy_from: ProxyFrom::new(self.proxy_protocol_from),
                renew: Some(files),
                ..Options::new(directory.join("crl"))
            },
            name: self.name,
        }
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(interval) if interval >= Duration::from_millis(10) => Ok(interval),
        Ok(_) => Err("at least 10ms".to_owned()),
        Err(error) => Err(format!("{error}; use a duration such as 1s or 500ms")),
    }
}

fn parse_on_stale_crl(text: &str) -> Result<OnStaleCrl, String> {
    let Some(grace) = text.strip_prefix("grace=") else {
        return match text {
            "refuse" => Ok(OnStaleCrl::Refuse),
            _ => Err("use refuse, or a grace such as grace=2h".to_owned()),
        };
    };
    match humantime::parse_duration(grace) {
        Ok(Duration::ZERO) => Err("a grace of zero is not allowed; use refuse, or a grace such as grace=2h".to_owned()),
        Ok(grace) => Ok(OnStaleCrl::Grace(grace)),
        Err(error) => Err(format!("{error}; use a grace such as grace=2h or grace=30m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_stale_crl(text: &str) -> Result<OnStaleCrl, String> {
        let arguments = Arguments::try_parse_from(["api-server", "--on-stale-crl", text]);
        arguments.map(|arguments| arguments.into_config().options.on_stale_crl).map_err(|error| error.to_string())
    }

    #[test]
    fn a_stale_crl_refuses_unless_a_grace_is_given() {
        let default = Arguments::try_parse_from(["api-server"]).unwrap().into_config();
        assert_eq!(default.options.on_stale_crl, OnStaleCrl::Refuse);
        assert_eq!(on_stale_crl("refuse"), Ok(OnStaleCrl::Refuse));
        assert_eq!(on_stale_crl("grace=2h"), Ok(OnStaleCrl::Grace(Duration::from_hours(2))));
        assert_eq!(on_stale_crl("grace=1h 30m"), Ok(OnStaleCrl::Grace(Duration::from_mins(90))));
    }

    #[test]
    fn an_invalid_policy_for_stale_crls_is_refused_with_an_example() {
        for bad in ["", "admit", "Refuse", "grace", "grace=", "grace=2", "grace=-1h", "grace=0s", "grace=soon", "2h"] {
            let error = on_stale_crl(bad).unwrap_err();
            let says = |text: &str| error.contains(text);
            assert!(says("--on-stale-crl") && says(&format!("'{bad}'")) && says("grace=2h"), "{bad}: {error}");
        }
    }
}
