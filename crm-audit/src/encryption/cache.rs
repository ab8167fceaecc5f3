//! [`Cache`]: what is kept in memory of a bounded number of tenants.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::lock::Mutex as Turn;
use uuid::Uuid;

/// What is kept of tenants, each in a slot of its own.
pub(super) struct Cache<T> {
    slots: Mutex<HashMap<Uuid, Arc<Slot<T>>>>,
    capacity: usize,
    uses: AtomicU64,
}

/// What is kept of one tenant.
pub(super) struct Slot<T> {
    /// Whoever loads holds it, so that one does and the others wait.
    pub(super) load: Turn<()>,
    kept: Mutex<Option<T>>,
    loads: AtomicU64,
    used: AtomicU64,
}

impl<T> Cache<T> {
    /// For so many tenants, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            slots: Mutex::default(),
            capacity: capacity.max(1),
            uses: AtomicU64::new(0),
        }
    }

    /// The slot of a tenant. Where it is one too many, that goes which was not used for longest; who
    /// has it in hand may still use it.
    pub(super) fn slot(&self, tenant: Uuid) -> Arc<Slot<T>> {
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut slots = held(&self.slots);
        if let Some(slot) = slots.get(&tenant) {
            slot.used.store(used, Ordering::Relaxed);
            return Arc::clone(slot);
        }
        if slots.len() >= self.capacity {
            let by_use = |(_, slot): &(&Uuid, &Arc<Slot<T>>)| slot.used.load(Ordering::Relaxed);
            let oldest = slots.iter().min_by_key(by_use).map(|(tenant, _)| *tenant);
            oldest.and_then(|tenant| slots.remove(&tenant));
        }
        let slot = Arc::new(Slot {
            load: Turn::new(()),
            kept: Mutex::new(None),
            loads: AtomicU64::new(0),
            used: AtomicU64::new(used),
        });
        slots.insert(tenant, Arc::clone(&slot));
        slot
    }

    /// Drops the slot of a tenant. What is being loaded for it is not kept.
    pub(super) fn forget(&self, tenant: Uuid) {
        held(&self.slots).remove(&tenant);
    }
}

impl<T: Clone> Slot<T> {
    /// What is kept.
    pub(super) fn kept(&self) -> Option<T> {
        held(&self.kept).clone()
    }

    /// Keeps what was loaded.
    pub(super) fn keep(&self, loaded: Option<T>) {
        *held(&self.kept) = loaded;
        self.loads.fetch_add(1, Ordering::SeqCst);
    }

    /// How often something was loaded.
    pub(super) fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let cache = Cache::new(2);
        let tenant = Uuid::from_u128;
        for (number, kept) in [(1, 'a'), (2, 'b')] {
            cache.slot(tenant(number)).keep(Some(kept));
        }
        assert_eq!(cache.slot(tenant(1)).kept(), Some('a'));
        cache.slot(tenant(3)).keep(Some('c'));
        assert_eq!(held(&cache.slots).len(), 2);
        assert_eq!(cache.slot(tenant(1)).kept(), Some('a'));
        assert_eq!(cache.slot(tenant(2)).kept(), None);
        cache.forget(tenant(1));
        assert_eq!(cache.slot(tenant(1)).kept(), None);
    }
}
