//! Looks up names, and does not let a name server that is out of reach hold up what is known already: after a cut of the network
//! the next request succeeds, and not the next one after the lookup that was under way in the cut.
//!
//! It decides nothing: whoever answers at an address that was good before has to prove who it is, or what it says, as ever.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::{net::lookup_host, sync::watch, task::spawn, time::timeout};
use tower::Service;

/// How long a lookup may take where its last answer would do.
const PATIENCE: Duration = Duration::from_millis(300);

/// The few names of the places that are asked; clones share what is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The last answer for each name.
    answers: HashMap<String, Vec<SocketAddr>>,
    /// What is under way: one lookup of a name at a time, because none can be taken back.
    lookups: HashMap<String, watch::Receiver<Found>>,
}

/// What a lookup has come to so far; an error as text, because it is told to everybody who waits.
type Found = Option<Result<Vec<SocketAddr>, String>>;

impl Names {
    async fn find(self, name: String) -> io::Result<Vec<SocketAddr>> {
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

    /// The lookup of this name that is under way, or a new one.
    fn look_up(&self, name: &str) -> watch::Receiver<Found> {
        self.known(|known| {
            if let Some(lookup) = known.lookups.get(name) {
                return lookup.clone();
            }
            let (tell, hear) = watch::channel(None);
            known.lookups.insert(name.to_owned(), hear.clone());
            let (names, name) = (self.clone(), name.to_owned());
            spawn(async move {
                let found = lookup_host((&*name, 0)).await.map(Iterator::collect::<Vec<_>>);
                names.known(|known| {
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

impl Service<Name> for Names {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.clone();
        Box::pin(async move { Ok(names.find(name.as_str().to_owned()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name server that does not answer.
    fn silence(names: &Names, name: &str) -> watch::Sender<Found> {
        let (tell, hear) = watch::channel(None);
        names.known(|known| known.lookups.insert(name.to_owned(), hear));
        tell
    }

    #[tokio::test]
    async fn what_was_found_last_does_while_nobody_answers() {
        let names = Names::default();
        let first = names.clone().find("localhost".to_owned()).await.unwrap();
        assert!(first.iter().all(|address| address.ip().is_loopback()) && !first.is_empty(), "{first:?}");
        let tell = silence(&names, "localhost");
        assert_eq!(names.clone().find("localhost".to_owned()).await.unwrap(), first);
        let elsewhere = vec!["192.0.2.1:0".parse().unwrap()];
        tell.send(Some(Ok(elsewhere.clone()))).unwrap();
        assert_eq!(names.find("localhost".to_owned()).await.unwrap(), elsewhere, "an answer counts for more");
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_an_error_and_waited_for() {
        let names = Names::default();
        let tell = silence(&names, "ca");
        let (found, ()) = tokio::join!(names.clone().find("ca".to_owned()), async {
            tell.send(Some(Err("no such name".to_owned()))).unwrap();
        });
        assert_eq!(found.unwrap_err().to_string(), "no such name");
    }
}
