//! Resolves host names, and uses the last answer where the name server does not answer within 300 ms. After a network
//! outage the next request succeeds at once, instead of waiting for the lookup that began during the outage.
//!
//! It never judges who listens on an address: the peer proves that with its certificate or its signature.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{net::lookup_host, sync::watch, task::spawn, time::timeout};

/// How long a lookup may take if there is an earlier answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// Resolves names and remembers the last answer for each. Clones share the answers. There is no bound, because a
/// process resolves the names of only a few hosts.
#[derive(Clone, Debug, Default)]
pub struct Resolver(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The last answer for each name.
    answers: HashMap<String, Vec<SocketAddr>>,
    /// Running lookups, at most one for each name, because a lookup cannot be cancelled.
    lookups: HashMap<String, watch::Receiver<Found>>,
}

/// The state of a lookup. An error is text, because all waiting callers receive it.
type Found = Option<Result<Vec<SocketAddr>, String>>;

impl Resolver {
    /// The addresses of a host, each with port 0. An error has the text of the lookup that failed.
    pub async fn resolve(self, name: String) -> io::Result<Vec<SocketAddr>> {
        let mut lookup = self.look_up(&name);
        let found = async {
            match lookup.wait_for(Option::is_some).await {
                Ok(found) => found.clone().expect("it was waited for"),
                Err(_) => Err("the lookup was given up".to_owned()),
            }
        };
        let found = match self.known(|known| known.answers.get(&name).cloned()) {
            None => found.await,
            Some(addresses) => timeout(PATIENCE, found).await.ok().and_then(Result::ok).map_or(Ok(addresses), Ok),
        };
        found.map_err(io::Error::other)
    }

    /// The running lookup of this name, or a new one.
    fn look_up(&self, name: &str) -> watch::Receiver<Found> {
        self.known(|known| {
            if let Some(lookup) = known.lookups.get(name) {
                return lookup.clone();
            }
            let (tell, hear) = watch::channel(None);
            known.lookups.insert(name.to_owned(), hear.clone());
            let (resolver, name) = (self.clone(), name.to_owned());
            spawn(async move {
                let found = lookup_host((&*name, 0)).await.map(Iterator::collect::<Vec<_>>);
                resolver.known(|known| {
                    known.lookups.remove(&name);
                    if let Ok(addresses) = &found
                        && !addresses.is_empty()
                    {
                        known.answers.insert(name, addresses.clone());
                    }
                });
                let _ = tell.send(Some(found.map_err(|error| error.to_string())));
            });
            hear
        })
    }

    fn known<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name server that does not answer.
    fn silence(resolver: &Resolver, name: &str) -> watch::Sender<Found> {
        let (tell, hear) = watch::channel(None);
        resolver.known(|known| known.lookups.insert(name.to_owned(), hear));
        tell
    }

    #[tokio::test]
    async fn the_last_answer_is_used_while_the_name_server_does_not_answer() {
        let resolver = Resolver::default();
        let first = resolver.clone().resolve("localhost".to_owned()).await.unwrap();
        assert!(first.iter().all(|address| address.ip().is_loopback()) && !first.is_empty(), "{first:?}");
        let tell = silence(&resolver, "localhost");
        assert_eq!(resolver.clone().resolve("localhost".to_owned()).await.unwrap(), first);
        let elsewhere = vec!["192.0.2.1:0".parse().unwrap()];
        tell.send(Some(Ok(elsewhere.clone()))).unwrap();
        assert_eq!(
            resolver.resolve("localhost".to_owned()).await.unwrap(),
            elsewhere,
            "a new answer replaces the last one"
        );
    }

    #[tokio::test]
    async fn a_name_without_an_earlier_answer_is_waited_for_and_may_be_an_error() {
        let resolver = Resolver::default();
        let tell = silence(&resolver, "ca");
        let (found, ()) = tokio::join!(resolver.clone().resolve("ca".to_owned()), async {
            tell.send(Some(Err("no such name".to_owned()))).unwrap();
        });
        assert_eq!(found.unwrap_err().to_string(), "no such name");
    }
}
