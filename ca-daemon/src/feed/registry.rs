//! Which instances are expected to enforce what is revoked. One comes by opening the feed. It goes by saying goodbye, by the proof that
//! another took its place, by the end of what it can still admit, or by the operator's word; never because another one came.
//!
//! It never asks what time it is, never writes anything down, and never takes one's word for the other's.

use std::collections::{BTreeMap, BTreeSet};

use pki::{instance::InstanceId, serial::Serial, time::Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    Member,
    instance::{Instance, Unwritten},
};
use crate::store::{InstanceKey, RelyingParty};

/// How many instances one certificate may have. A new one beyond that is refused: more than anybody runs with one certificate, and than
/// come and go between two rounds of forgetting.
pub(super) const MOST_OF_A_CERTIFICATE: usize = 32;

/// All instances that are expected.
#[derive(Debug, Default)]
pub(super) struct Registry {
    instances: BTreeMap<InstanceKey, Instance>,
    /// Those that are not expected any more and are yet to be removed from the database.
    gone: BTreeSet<InstanceKey>,
}

/// One certificate has as many instances as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// What became of a predecessor that an instance has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Predecessor {
    /// It is not expected any more; it had been, under this name.
    Replaced(String),
    /// It is connected, so it is expected until it has been silent to its end.
    Connected(String),
}

/// What became of the order to forget instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Forgotten {
    /// These are not expected any more.
    Done(Vec<InstanceId>),
    /// There is none.
    Unknown,
    /// They are on the feed right now, and would be back at once.
    Connected,
    /// Several begin like that.
    Ambiguous,
}

impl Registry {
    /// Of those who are remembered.
    pub(super) fn new(records: Vec<RelyingParty>) -> Self {
        let instances = records.into_iter().map(|record| (record.key(), Instance::remembered(record)));
        Self { instances: instances.collect(), gone: BTreeSet::new() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Instance> {
        self.instances.values_mut()
    }

    /// Who is expected, by name. Whoever cannot admit anybody any more is not, as [`Self::expire`] sees it.
    pub(super) fn expected(&self, lists_end: Timestamp, now: Timestamp) -> Vec<&Instance> {
        let mut expected: Vec<_> = self.all().filter(|instance| !is_gone(instance, lists_end, now)).collect();
        expected.sort_by_cached_key(|Instance { record, .. }| (record.name.clone(), record.first_seen, record.key()));
        expected
    }

    /// A stream of this instance has begun, which ends when the other end of its lifeline is dropped.
    pub(super) fn enter(
        &mut self,
        member: &Member,
        predecessors: &[InstanceId],
        lifeline: oneshot::Sender<()>,
        now: Timestamp,
    ) -> Result<(), TooMany> {
        let key = member.key();
        if !self.instances.contains_key(&key) && self.of_certificate(&key.serial, predecessors) >= MOST_OF_A_CERTIFICATE
        {
            return Err(TooMany);
        }
        // The same run under its next certificate goes on with its total of connections that were ended.
        let before = self.instances.values().find(|before| before.record.instance == key.instance);
        let first = before.map_or_else(
            || Instance::new(member.first_record(now)),
            |before| before.under_next_certificate(member.first_record(now)),
        );
        let instance = self.instances.entry(key).or_insert(first);
        instance.touch(&member.address, now);
        instance.streams.push(lifeline);
        if instance.record.connected_since.is_none() {
            instance.record.connected_since = Some(now);
            instance.change();
        }
        Ok(())
    }

    /// The instance, if it has an open stream: only then is its word taken.
    pub(super) fn connected(&mut self, member: &Member, now: Timestamp) -> Option<&mut Instance> {
        let instance = self.instances.get_mut(&member.key()).filter(|instance| !instance.streams.is_empty())?;
        instance.touch(&member.address, now);
        Some(instance)
    }

    /// Whether this stream's end was its instance's last one.
    pub(super) fn leave(&mut self, key: &InstanceKey) -> Option<&RelyingParty> {
        let instance = self.instances.get_mut(key)?;
        // One that reconnects is often here before its old stream is known to be dead.
        instance.streams.retain(|lifeline| !lifeline.is_closed());
        if !instance.streams.is_empty() || instance.record.connected_since.take().is_none() {
            return None;
        }
        instance.change();
        if instance.is_superseded {
            self.gone.insert(*key);
            self.instances.remove(key);
            return None;
        }
        self.instances.get(key).map(|instance| &instance.record)
    }

    /// Somebody has proven that it takes the place of these, of which some may be known.
    pub(super) fn succeed(&mut self, successor: &InstanceKey, ids: &[InstanceId]) -> Vec<(InstanceId, Predecessor)> {
        let known: Vec<_> =
            self.instances.keys().filter(|key| *key != successor && ids.contains(&key.instance)).copied().collect();
        let mut fates = Vec::new();
        for key in known {
            let Some(instance) = self.instances.get_mut(&key) else { continue };
            let name = instance.record.name.clone();
            if instance.streams.is_empty() {
                self.remove(&key);
                fates.push((key.instance, Predecessor::Replaced(name)));
            } else {
                instance.is_superseded = true;
                fates.push((key.instance, Predecessor::Connected(name)));
            }
        }
        fates
    }

    /// It is not expected any more. Its streams end.
    pub(super) fn remove(&mut self, key: &InstanceKey) {
        self.instances.remove(key);
        self.gone.insert(*key);
    }

    /// Expects nothing more of the disconnected instances of this name: of all, or of the one whose id begins like this.
    pub(super) fn forget(&mut self, name: &str, id: Option<&str>) -> Forgotten {
        let is_meant = |record: &RelyingParty| {
            record.name == name && id.is_none_or(|id| record.instance.to_string().starts_with(id))
        };
        let meant: Vec<_> = self.all().filter(|instance| is_meant(&instance.record)).collect();
        let gone: Vec<_> =
            meant.iter().filter(|instance| instance.streams.is_empty()).map(|it| it.record.key()).collect();
        if meant.is_empty() {
            return Forgotten::Unknown;
        }
        if id.is_some() && meant.len() > 1 {
            return Forgotten::Ambiguous;
        }
        if gone.is_empty() {
            return Forgotten::Connected;
        }
        for key in &gone {
            self.remove(key);
        }
        Forgotten::Done(gone.into_iter().map(|key| key.instance).collect())
    }

    /// Removes whoever cannot admit anybody any more. This database may be an older copy, and not know how somebody went on whom this
    /// daemon has not heard; but no list from before its start is good for longer than until `lists_end`.
    pub(super) fn expire(&mut self, lists_end: Timestamp, now: Timestamp) -> Vec<RelyingParty> {
        let is_gone = |instance: &&Instance| is_gone(instance, lists_end, now);
        let over: Vec<_> = self.all().filter(is_gone).map(|instance| instance.record.clone()).collect();
        for record in &over {
            self.remove(&record.key());
        }
        over
    }

    /// Takes what is to be written down and is as urgent as this, and who is to be removed.
    pub(super) fn take_unwritten(&mut self, urgency: Unwritten) -> (Vec<RelyingParty>, Vec<InstanceKey>) {
        let due = self.instances.values_mut().filter(|instance| instance.unwritten >= urgency);
        let records = due.map(|instance| {
            instance.unwritten = Unwritten::Nothing;
            instance.record.clone()
        });
        let records = records.collect();
        (records, std::mem::take(&mut self.gone).into_iter().collect())
    }

    /// They could not be written down.
    pub(super) fn give_back(&mut self, records: &[RelyingParty], gone: Vec<InstanceKey>) {
        for record in records {
            if let Some(instance) = self.instances.get_mut(&record.key()) {
                instance.change();
            }
        }
        self.gone.extend(gone.into_iter().filter(|key| !self.instances.contains_key(key)));
    }

    /// How many there are, but for those whose place another one is about to take.
    fn of_certificate(&self, serial: &Serial, replaced: &[InstanceId]) -> usize {
        let is_replaced =
            |instance: &Instance| instance.streams.is_empty() && replaced.contains(&instance.record.instance);
        self.all().filter(|instance| instance.record.serial == *serial && !is_replaced(instance)).count()
    }
}

/// Whether it cannot admit anybody any more, and that does not rest on what an older copy may say.
fn is_gone(instance: &Instance, lists_end: Timestamp, now: Timestamp) -> bool {
    instance.is_over(now) && (instance.has_confirmed() || instance.latest(lists_end) < now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_is_only_remembered_is_kept_until_no_list_from_before_is_good() {
        let start = Timestamp::from_unix(1_795_510_800);
        let at = |hours| start.plus(Duration::from_hours(hours));
        let member = Member {
            name: "service0".to_owned(),
            serial: Serial::from_random([1; 16]),
            instance: format!("{:032x}", 1).parse().unwrap(),
            address: "10.0.0.1:1".to_owned(),
            not_after: Timestamp::MAX,
        };
        let record = RelyingParty { admits_until: Some(at(1)), grace: 3600, ..member.first_record(start) };
        let mut registry = Registry::new(vec![record.clone()]);
        let lists_end = at(24);
        let said = |registry: &Registry, now| {
            let said = registry.expected(lists_end, now).first().map(|instance| instance.record_at(lists_end, now));
            said.map(|record| record.admits_until)
        };
        assert_eq!(said(&registry, at(1)), Some(Some(at(1))));
        assert_eq!(
            said(&registry, at(2)),
            Some(Some(at(25))),
            "what an older copy says of it may be over for it alone"
        );
        assert_eq!(registry.expire(lists_end, at(25)), [], "an hour of grace is left");
        assert_eq!(said(&registry, at(25)), Some(Some(at(25))));
        assert_eq!(said(&registry, at(26)), None);
        assert_eq!(registry.expire(lists_end, at(26)), [record]);
        assert_eq!(registry.take_unwritten(Unwritten::Change), (Vec::new(), vec![member.key()]));
        assert_eq!(registry.forget("service0", None), Forgotten::Unknown);
    }
}
