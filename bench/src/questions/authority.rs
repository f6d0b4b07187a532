//! What CRLs cost the authority itself: signed by its commands, database and all, and served by its daemon to many at once.

use std::{
    net::SocketAddr,
    process::Command,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
};

use crate::{
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    usage,
    world::World,
};

/// So many fetch the complete CRL at once.
const PARTIES: usize = 50;
/// So many conditional requests are timed together: the kernel shows processor time in ticks.
const CONDITIONAL: u32 = 10_000;

/// Signs, and serves, so many times.
pub(crate) fn ask(runtime: &Runtime, world: &mut World, rounds: usize) -> anyhow::Result<Table> {
    let daemon = world.fleet.ca().id();
    let http: SocketAddr = world.fleet.crl_url().trim_start_matches("http://").parse()?;
    let (times, bytes) = (|| Rounds::new(Unit::Seconds), || Rounds::new(Unit::Octets));
    let (mut complete, mut complete_peak, mut delta, mut delta_peak) = (times(), bytes(), times(), bytes());
    let (mut first, mut first_peak, mut again, mut again_peak, mut cpu, mut size) =
        (times(), bytes(), times(), bytes(), times(), bytes());
    let mut conditional = times();
    let mut sent_away = 0;
    for round in 0..rounds {
        let (took, peak) = watched(world, &["crl", "--resign", "--out", "resigned.crl"])?;
        complete.add_time(took);
        complete_peak.add(peak);
        for (all, peaks) in [(&mut first, &mut first_peak), (&mut again, &mut again_peak)] {
            let before = (usage::resident(daemon)?, usage::processor_time(daemon)?);
            usage::forget_peak(daemon)?;
            let began = Instant::now();
            let (bytes, again) = runtime.block_on(fetch_at_once(http))?;
            sent_away += again;
            all.add_time(began.elapsed());
            peaks.add((usage::peak(daemon)? - before.0).max(0.0));
            cpu.add_time(usage::processor_time(daemon)?.saturating_sub(before.1));
            size.add(bytes);
        }
        let before = usage::processor_time(daemon)?;
        runtime.block_on(ask_whether_it_has_changed(http))?;
        conditional.add_time(usage::processor_time(daemon)?.saturating_sub(before) / CONDITIONAL);
        let name = format!("delta_{round}");
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        let issue = ["issue", "--client", "--name", &name, "--cert", &cert, "--key", &key];
        let output = world.fleet.ca_daemon(&issue);
        ensure!(output.status.success(), "{output:?}");
        let (took, peak) = watched(world, &["revoke", &name, "--no-wait"])?;
        delta.add_time(took);
        delta_peak.add(peak);
    }
    let mut table = Table::new(format!("The authority with {} revoked", world.revoked));
    let at_most = |bound| [Goal::at_most(Statistic::Median, bound)];
    table.judged("crl --resign: rows read, complete CRL built, signed, stored and written", complete, at_most(0.2));
    table.judged("its peak", complete_peak, at_most(80e6));
    table.row("revoke --no-wait: one revocation recorded, its delta signed and stored", delta);
    table.row("its peak", delta_peak);
    table.row(format!("a new complete CRL to {PARTIES} at once, until the last one has it"), first);
    table.row("the daemon's peak meanwhile, above what it held before", first_peak);
    table.row("the same CRL once more", again);
    table.row("the daemon's peak meanwhile, above what it held before", again_peak);
    table.row("the daemon's CPU for all of them, each time", cpu);
    table.row("what each of them fetches", size);
    table.row("whether there is another one, asked and answered with 304: the daemon's CPU", conditional);
    table.note(format!("Told with 503 to come back in a second, which they did: {sent_away}."));
    table.note(
        "The goals are those for building and signing alone; the table of the live set has that without the database, and a delta of \
         1,000 beside it. Serial numbers are random and so do not compress; the CRL is served as it is.",
    );
    Ok(table)
}

/// Runs a command of the authority; how long it took and its peak, in bytes.
fn watched(world: &World, arguments: &[&str]) -> anyhow::Result<(Duration, f64)> {
    let mut command: Command = world.fleet.command("ca-daemon");
    command.args(arguments).stdout(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let mut peak: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // What it says last is the peak but for the last millisecond; once it has ended, nothing can be read.
        peak = usage::peak(child.id()).unwrap_or(0.0).max(peak);
        thread::sleep(Duration::from_millis(1));
    };
    let took = began.elapsed();
    ensure!(status.success(), "{arguments:?} ended with {status}");
    Ok((took, peak))
}

/// Everybody fetches the complete CRL at once; how many bytes each got, and how often one was sent away.
async fn fetch_at_once(http: SocketAddr) -> anyhow::Result<(f64, usize)> {
    let mut parties = JoinSet::new();
    for _ in 0..PARTIES {
        parties.spawn(async move {
            let mut sent_away = 0;
            loop {
                match fetch(http).await? {
                    Fetched::Octets(bytes) => return anyhow::Ok((bytes, sent_away)),
                    Fetched::ComeBack => sent_away += 1,
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    let (mut least, mut sent_away) = (u32::MAX, 0);
    while let Some(fetched) = parties.join_next().await {
        let (bytes, times) = fetched??;
        least = least.min(bytes);
        sent_away += times;
    }
    Ok((f64::from(least), sent_away))
}

/// As a relying party does that polls: over a connection that stays, whether the delta is still the one that it knows.
async fn ask_whether_it_has_changed(http: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(http).await?;
    let mut tag = String::new();
    let mut buffer = vec![0; 64 * 1024];
    for count in 0..=CONDITIONAL {
        let condition = if count == 0 { String::new() } else { format!("if-none-match: {tag}\r\n") };
        let request = format!("GET /crl/issuing-delta.crl HTTP/1.1\r\nhost: {http}\r\n{condition}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let read = stream.read(&mut buffer).await?;
        let head = String::from_utf8_lossy(&buffer[..read]).to_lowercase();
        let expected = if count == 0 { "http/1.1 200" } else { "http/1.1 304" };
        ensure!(head.starts_with(expected), "{head}");
        if count == 0 {
            let found = head.lines().find_map(|line| line.strip_prefix("etag: ")).context("it has an entity tag")?;
            found.clone_into(&mut tag);
            read_to_the_end(&mut stream, &mut buffer, read).await?;
        }
    }
    Ok(())
}

enum Fetched {
    Octets(u32),
    /// Status 503.
    ComeBack,
}

/// As cheaply as can be: it is the daemon that is measured, on the same cores.
async fn fetch(http: SocketAddr) -> anyhow::Result<Fetched> {
    let mut stream = TcpStream::connect(http).await?;
    let request = format!("GET /crl/issuing.crl HTTP/1.1\r\nhost: {http}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 256 * 1024];
    let first = stream.read(&mut buffer).await?;
    if buffer[..first].starts_with(b"HTTP/1.1 503") {
        return Ok(Fetched::ComeBack);
    }
    ensure!(buffer[..first].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..first]));
    Ok(Fetched::Octets(u32::try_from(read_to_the_end(&mut stream, &mut buffer, first).await?)?))
}

/// Reads the rest of an answer of which so many bytes are in the buffer, its head among them; how long its body is.
async fn read_to_the_end(stream: &mut TcpStream, buffer: &mut [u8], first: usize) -> anyhow::Result<usize> {
    let head =
        buffer[..first].windows(4).position(|window| window == b"\r\n\r\n").context("the head is in one piece")?;
    let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length: ")).context("it says how long it is")?;
    let length: usize = length.trim().parse()?;
    let mut bytes = first - head - 4;
    while bytes < length {
        let more = stream.read(buffer).await?;
        ensure!(more > 0, "{bytes} bytes of {length}");
        bytes += more;
    }
    Ok(bytes)
}
