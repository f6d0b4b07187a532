//! Enrollments: how many in a second, how long each takes and what it costs, over connections that are kept and over new ones, with
//! nothing and with millions of certificates stored before.

mod others;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use e2e::run;

use self::others::Cfssl;
use crate::{
    roles::enrolling::Enrolled,
    rounds::{Rounds, Statistic, Unit},
    table::{Goal, Table},
    world::World,
};

/// How many clients enroll at the same time, and how many certificates in a round: so many that it takes about a second.
const LOADS: [(usize, usize, Connections); 6] = [
    (1, 1_000, Connections::Kept),
    (16, 5_000, Connections::Kept),
    (64, 5_000, Connections::Kept),
    (1, 500, Connections::Fresh),
    (16, 2_000, Connections::Fresh),
    (64, 2_000, Connections::Fresh),
];
/// How often each command is timed.
const COMMANDS: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connections {
    Kept,
    Fresh,
}

impl Connections {
    fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept connections",
            Self::Fresh => "a new connection each",
        }
    }

    /// How many should be enrolled in a second by 16 clients and more.
    fn wanted(self) -> f64 {
        match self {
            Self::Kept => 5_000.0,
            Self::Fresh => 1_500.0,
        }
    }
}

/// An authority with so many certificates stored.
struct Place {
    world: World,
    stored: u64,
    /// What each load came to.
    seen: [Seen; LOADS.len()],
}

#[derive(Clone)]
struct Seen {
    rates: Rounds,
    /// How long as many take as are wanted in a second.
    took: Rounds,
    medians: Rounds,
    slowest: Rounds,
    server: Rounds,
    client: Rounds,
}

impl Seen {
    fn new() -> Self {
        let times = || Rounds::new(Unit::Seconds);
        Self {
            rates: Rounds::new(Unit::PerSecond),
            took: times(),
            medians: times(),
            slowest: times(),
            server: times(),
            client: times(),
        }
    }

    fn add(&mut self, enrolled: &Enrolled, wanted: f64) {
        self.rates.add(enrolled.per_second);
        self.took.add(wanted / enrolled.per_second);
        self.medians.add(enrolled.p50);
        self.slowest.add(enrolled.p99);
        self.server.add(enrolled.server_time);
        self.client.add(enrolled.client_time);
    }
}

/// Everywhere the same, in rounds that take turns; the first place has nothing stored.
pub(crate) fn ask(stored: &[u64], rounds: usize, answered: &mut impl FnMut(Table)) -> anyhow::Result<()> {
    let mut places = stored.iter().map(|stored| Place::new(*stored)).collect::<anyhow::Result<Vec<_>>>()?;
    let sizes = places.iter_mut().map(Place::size).collect::<anyhow::Result<Vec<_>>>()?;
    let first = places.first().context("nothing was asked")?;
    others::make_ca(&first.world)?;
    let cfssl = Cfssl::start(&first.world)?;
    let mut cfssl_seen = LOADS.map(|_| Seen::new());
    let mut openssl = Rounds::new(Unit::Seconds);
    for _ in 0..rounds {
        for load in 0..LOADS.len() {
            for place in &mut places {
                place.enroll(load)?;
            }
            let world = &places[0].world;
            // A tenth of the certificates: it takes as long.
            cfssl_seen[load].add(&drive(world, load, 10, &cfssl.arguments(), cfssl.id())?, LOADS[load].2.wanted());
            openssl.add_time(others::openssl_ca(world)?);
        }
    }
    let [empty, others @ ..] = places.as_slice() else { anyhow::bail!("nothing was asked") };
    let mut table = Table::new("Enrollments, each durable before it is answered");
    report(&empty.seen, "", &mut table);
    for other in others {
        other.compare(empty, &mut table);
    }
    let enrolled: usize = LOADS.iter().map(|(_, count, _)| count * rounds).sum();
    for (place, before) in places.iter_mut().zip(sizes) {
        let each = (place.size()? - before) / u64::try_from(enrolled)?;
        table.note(format!(
            "With {} stored, each further certificate takes {each} bytes in the database.",
            place.stored
        ));
    }
    table.note(
        "HTTP/1.1 over TLS 1.3; clients share one token, and each certificate has a key and a name of its own, in no order. Clients and \
         authority share the processors. What is stored before is written past the authority, as large as what it writes itself.",
    );
    answered(table);
    let mut table = Table::new("Enrollments beside cfssl and openssl ca");
    report(&cfssl_seen, "cfssl: ", &mut table);
    table.row("openssl ca: a certificate, the whole command, one after the other", openssl);
    for (((clients, _, connections), ours), theirs) in LOADS.iter().zip(&places[0].seen).zip(&cfssl_seen) {
        let what = format!("{clients} at a time, {}", connections.name());
        table.row(format!("{what}: time of ca-daemon over cfssl"), ours.took.over(&theirs.took));
        table.row(format!("{what}: CPU of ca-daemon over cfssl"), ours.server.over(&theirs.server));
    }
    table.note(
        "cfssl writes each certificate to SQLite (write-ahead log) before it answers; it asks for no token, and does not tell who asks \
         again. `openssl ca` syncs nothing to the disk, and reads and writes its whole index each time; it starts with none.",
    );
    answered(table);
    for place in &mut places {
        answered(place.commands()?);
    }
    Ok(())
}

/// One round of a load, or so many times less of it, at whatever these arguments name.
fn drive(world: &World, load: usize, less: usize, target: &[String], server: u32) -> anyhow::Result<Enrolled> {
    let (clients, count, connections) = LOADS[load];
    let mut arguments = vec!["enrolling".to_owned()];
    arguments.extend_from_slice(target);
    for (name, value) in
        [("--clients", clients.to_string()), ("--count", (count / less).to_string()), ("--server", server.to_string())]
    {
        arguments.extend([name.to_owned(), value]);
    }
    if connections == Connections::Fresh {
        arguments.push("--fresh".to_owned());
    }
    let line = world.role(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?.line();
    serde_json::from_str(&line).with_context(|| line.clone())
}

fn report(seen: &[Seen], who: &str, table: &mut Table) {
    for ((clients, _, connections), seen) in LOADS.iter().zip(seen) {
        let what = format!("{who}{clients} at a time, {}", connections.name());
        let wanted = connections.wanted();
        let is_ours = who.is_empty();
        table.row(format!("{what}: certificates in a second"), seen.rates.clone());
        let goals = if is_ours && *clients > 1 { vec![Goal::at_most(Statistic::Median, 1.0)] } else { Vec::new() };
        table.judged(format!("{what}: time for {wanted}"), seen.took.clone(), goals);
        table.row(format!("{what}: wait, median of each round"), seen.medians.clone());
        let goals = if is_ours && *clients == 64 { vec![Goal::at_most(Statistic::Median, 0.05)] } else { Vec::new() };
        table.judged(format!("{what}: wait, p99 of each round"), seen.slowest.clone(), goals);
        table.row(format!("{what}: CPU of the authority for each"), seen.server.clone());
        table.row(format!("{what}: CPU of the clients for each"), seen.client.clone());
    }
}

impl Place {
    fn new(stored: u64) -> anyhow::Result<Self> {
        let mut world = World::with_revoked(0)?;
        let arguments = ["token", "create", "--client", "--uses", "100000000", "--out", "enrolling.token", "--json"];
        let created = world.fleet.ca_daemon(&arguments).success().json();
        if stored > 0 {
            world.fleet.ca().stop();
            let token = created["id"].as_str().context("a token has an id")?;
            fill(&world.fleet.ca_directory().join("ca.db"), stored, token)?;
            world.fleet.start_ca();
        }
        Ok(Self { world, stored, seen: LOADS.map(|_| Seen::new()) })
    }

    fn enroll(&mut self, load: usize) -> anyhow::Result<()> {
        let target = ["--token-file".to_owned(), "enrolling.token".to_owned()];
        let server = self.world.fleet.ca().id();
        self.seen[load].add(&drive(&self.world, load, 1, &target, server)?, LOADS[load].2.wanted());
        Ok(())
    }

    /// In bytes, everything that was written included.
    fn size(&mut self) -> anyhow::Result<u64> {
        self.world.fleet.ca().stop();
        let size = fs::metadata(self.world.fleet.ca_directory().join("ca.db"))?.len();
        self.world.fleet.start_ca();
        Ok(size)
    }

    fn compare(&self, empty: &Self, table: &mut Table) {
        for (((clients, _, connections), seen), before) in LOADS.iter().zip(&self.seen).zip(&empty.seen) {
            let what = format!("{} stored: {clients} at a time, {}", self.stored, connections.name());
            table.row(format!("{what}: certificates in a second"), seen.rates.clone());
            table.row(format!("{what}: wait, p99 of each round"), seen.slowest.clone());
            let slower = seen.took.over(&before.took);
            let goals = if *clients == 64 { vec![Goal::at_most(Statistic::Median, 1.1)] } else { Vec::new() };
            table.judged(format!("{what}: time over that with nothing stored"), slower, goals);
        }
    }

    /// What is asked of one certificate among all the others; the daemon runs.
    fn commands(&mut self) -> anyhow::Result<Table> {
        let mut times = [(); 4].map(|()| Rounds::new(Unit::Seconds));
        for index in 0..COMMANDS {
            let name = format!("sought_{index}");
            let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
            let issue = ["issue", "--client", "--name", &name, "--cert", &certificate, "--key", &key];
            let _ = self.world.fleet.ca_daemon(&issue).success();
            let commands: [&[&str]; 4] = [
                &["list", "--name", &name],
                &["list", "--name", &format!("{name}*"), "--status", "valid"],
                &["show", &name],
                &["revoke", &name, "--no-wait"],
            ];
            for (command, times) in commands.into_iter().zip(&mut times) {
                let began = Instant::now();
                let output = self.world.fleet.ca_daemon(command);
                times.add_time(began.elapsed());
                ensure!(output.status.success() && output.stdout.contains(&name), "{command:?}: {output:?}");
            }
        }
        let mut table = Table::new(format!("Commands about one certificate of {}", self.stored));
        let goal = [Goal::at_most(Statistic::Median, Duration::from_millis(50).as_secs_f64())];
        let names = ["list --name NAME", "list --name 'NAME*' --status valid", "show NAME", "revoke NAME --no-wait"];
        for (name, times) in names.into_iter().zip(times) {
            table.judged(format!("ca-daemon {name}, the whole command"), times, goal);
        }
        Ok(table)
    }
}

/// Writes certificates into the database of an authority that does not run, enrolled with this token: through the same tables,
/// constraints and triggers, in the order in which the authority writes them, and as large as its own. As `World` does it for those that
/// are revoked, and for the same reason. Names and keys come in no order, so that the indexes are as they grow by themselves.
fn fill(database: &Path, stored: u64, token: &str) -> anyhow::Result<()> {
    let sql = format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -4000000; BEGIN IMMEDIATE;
         CREATE TEMP TABLE real AS SELECT length(der) AS length FROM certificates ORDER BY id DESC LIMIT 1;
         WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {stored})
         INSERT INTO certificates (serial, common_name, profile, spki_sha256, token_id, not_before, not_after, issued_at, der)
         SELECT CAST(char(64 + abs(random()) % 64) || randomblob(15) AS BLOB), 'host-' || lower(hex(randomblob(8))), 'client',
                randomblob(32), '{token}', unixepoch() - 3660, unixepoch() + 90 * 86400, unixepoch() - 3600,
                randomblob((SELECT length FROM real)) FROM number;
         COMMIT;
         SELECT count(*) FROM certificates WHERE token_id = '{token}';"
    );
    let output = run(Command::new("sqlite3").arg(database).arg(sql));
    ensure!(output.status.success(), "the database could not be filled: {}", output.stderr);
    let filled: u64 = output.stdout.lines().last().context("no count")?.trim().parse()?;
    ensure!(filled == stored, "{filled} of {stored} rows were written");
    Ok(())
}
