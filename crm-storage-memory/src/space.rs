//! [`Space`]: all rows of one tenant, or of the platform; [`Spaces`], which holds the current ones;
//! [`View`], what one call sees of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crm_core::query::Condition;
use crm_core::schema::{ObjectRef, ObjectScope, Row};
use crm_core::storage::Scope;
use uuid::Uuid;

use crate::index::same;
use crate::table::{Edit, Feed, Table};

/// The tables of one tenant, or of the platform. A clone shares the tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    tables: Vec<Slot>,
}

/// The description stands beside the table, so that a search by its address stays in one place of
/// the memory.
#[derive(Clone, Debug)]
struct Slot {
    object: ObjectRef,
    table: Arc<Table>,
}

impl Space {
    /// The place of an object's table.
    fn place(&self, object: &ObjectRef) -> Option<usize> {
        self.tables
            .iter()
            .position(|slot| same(&slot.object, object))
            .or_else(|| {
                self.tables
                    .iter()
                    .position(|slot| is_of(&slot.object, object))
            })
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.tables
            .iter()
            .position(|slot| slot.object.name() == name)
    }

    fn at(&self, place: usize) -> Option<&Table> {
        self.tables.get(place).map(|slot| &*slot.table)
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().map(|slot| &*slot.table)
    }

    /// Makes sure that there is a table with all that `object` asks for; gives its place, and
    /// whether the space had to change.
    fn ensure(space: &mut Arc<Self>, object: &ObjectRef) -> (usize, bool) {
        let place = space.place(object);
        if let Some(place) = place
            && space
                .at(place)
                .is_some_and(|table| table.layout().covers(object))
        {
            return (place, false);
        }
        let tables = &mut Arc::make_mut(space).tables;
        if let Some((place, slot)) = place.and_then(|place| Some((place, tables.get_mut(place)?))) {
            slot.object = object.clone();
            Arc::make_mut(&mut slot.table).take_in(object);
            return (place, true);
        }
        tables.push(Slot {
            object: object.clone(),
            table: Arc::new(Table::new(object)),
        });
        (tables.len() - 1, true)
    }

    /// Writes a row of the table at `place`.
    fn apply(space: &mut Arc<Self>, place: usize, edit: Edit) {
        if let Some(slot) = Arc::make_mut(space).tables.get_mut(place) {
            Arc::make_mut(&mut slot.table).apply(edit);
        }
    }
}

/// Whether two descriptions are of the same rows. The objects that a tenant defined are known by
/// their definition: two may have had the same name, and one may have had two.
fn is_of(a: &ObjectRef, b: &ObjectRef) -> bool {
    match (a.template(), b.template()) {
        (Some(a), Some(b)) => a.id == b.id && a.object == b.object,
        (None, None) => a == b,
        _ => false,
    }
}

/// Where a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Whether it is in the platform's space.
    shared: bool,
    /// Its place in the space.
    table: usize,
}

/// Holds the current [`Space`]; readers copy the pointer, writers replace it one at a time.
#[derive(Debug, Default)]
struct Root {
    current: RwLock<Arc<Space>>,
    writer: Mutex<()>,
}

impl Root {
    /// Waits for the right to write.
    fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Arc<Space>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Arc<Space>> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All spaces.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    /// The rows of the platform's objects.
    shared: Root,
    tenants: RwLock<Tenants>,
}

type Tenants = HashMap<u128, Arc<Root>, BuildHasherDefault<IdHasher>>;

impl Spaces {
    /// How many tenants were ever written to.
    pub(crate) fn tenant_count(&self) -> usize {
        self.tenants().len()
    }

    /// The tenants that were ever written to.
    pub(crate) fn tenant_ids(&self) -> Vec<Uuid> {
        self.tenants()
            .keys()
            .copied()
            .map(Uuid::from_u128)
            .collect()
    }

    fn tenants(&self) -> RwLockReadGuard<'_, Tenants> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what is current, which cannot change meanwhile: for a look that takes no longer
    /// than a snapshot. `shared` takes the platform's rows in.
    pub(crate) fn look<T>(
        &self,
        scope: &Scope,
        shared: bool,
        look: impl FnOnce(View<'_>) -> T,
    ) -> T {
        let tenant = scope.tenant().map(|tenant| tenant.uuid());
        let tenants = self.tenants();
        let own = tenant.and_then(|tenant| tenants.get(&tenant.as_u128()));
        // Both at once, in the order in which a write of both takes them.
        let own = own.map(|root| root.read());
        let shared = shared.then(|| self.shared.read());
        let view = View {
            tenant,
            own: own.as_ref().map(|space| &***space),
            shared: shared.as_ref().map(|space| &***space),
        };
        look(view)
    }

    /// What is current at this moment, to look at for any time. `shared` takes the platform's rows
    /// in.
    pub(crate) fn snapshot(&self, scope: &Scope, shared: bool) -> Snapshot {
        let tenant = scope.tenant().map(|tenant| tenant.uuid());
        let tenants = self.tenants();
        let own = tenant.and_then(|tenant| tenants.get(&tenant.as_u128()));
        Snapshot::of(
            tenant,
            own.map(|root| &**root),
            shared.then_some(&self.shared),
        )
    }

    fn root(&self, tenant: Uuid) -> Arc<Root> {
        if let Some(root) = self.tenants().get(&tenant.as_u128()) {
            return Arc::clone(root);
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tenants.entry(tenant.as_u128()).or_default())
    }

    /// Runs a write of a tenant: no other write of the tenant runs meanwhile and, if `shared`, no
    /// write of any tenant to the platform's rows.
    ///
    /// A tenant's own rows among the platform's are only written by the tenant, so they stand still
    /// for every write of the tenant, `shared` or not.
    pub(crate) fn write<T>(
        &self,
        tenant: Uuid,
        shared: bool,
        run: impl FnOnce(Writer<'_>) -> T,
    ) -> T {
        let own = self.root(tenant);
        // Always in this order, so that no two writers wait for each other.
        let _own = own.writer();
        let _shared = shared.then(|| self.shared.writer());
        let snapshot = Snapshot::of(Some(tenant), Some(&own), Some(&self.shared));
        run(Writer {
            own: &own,
            shared: shared.then_some(&self.shared),
            snapshot,
            is_new: false,
        })
    }
}

/// Keeps one state of a tenant's space and of the platform's, whatever others write meanwhile.
#[derive(Debug)]
pub(crate) struct Snapshot {
    tenant: Option<Uuid>,
    own: Option<Arc<Space>>,
    shared: Option<Arc<Space>>,
}

impl Snapshot {
    fn of(tenant: Option<Uuid>, own: Option<&Root>, shared: Option<&Root>) -> Self {
        let own = own.map(Root::read);
        let shared = shared.map(Root::read);
        let copy = |guard: RwLockReadGuard<'_, Arc<Space>>| Arc::clone(&guard);
        Self {
            tenant,
            own: own.map(copy),
            shared: shared.map(copy),
        }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            tenant: self.tenant,
            own: self.own.as_deref(),
            shared: self.shared.as_deref(),
        }
    }
}

/// What one call sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    tenant: Option<Uuid>,
    own: Option<&'a Space>,
    shared: Option<&'a Space>,
}

impl<'a> View<'a> {
    /// The only row that the scope sees of a platform object; `None` where it sees all.
    pub(crate) fn only(&self, object: &ObjectRef) -> Option<Uuid> {
        if object.scope() == ObjectScope::Platform {
            self.tenant
        } else {
            None
        }
    }

    /// The table of an object.
    pub(crate) fn table(&self, object: &ObjectRef) -> Option<&'a Table> {
        let space = match object.scope() {
            ObjectScope::Tenant => self.own?,
            ObjectScope::Platform => self.shared?,
        };
        space.at(space.place(object)?)
    }

    pub(crate) fn at(&self, place: Place) -> Option<&'a Table> {
        if place.shared { self.shared } else { self.own }?.at(place.table)
    }

    /// A row, if the scope sees it.
    pub(crate) fn row(&self, object: &ObjectRef, id: Uuid) -> Option<&'a Row> {
        if self.only(object).is_some_and(|only| only != id) {
            return None;
        }
        self.table(object)?.row(id)
    }

    /// A row of the object called `name`, if the tenant sees it.
    pub(crate) fn row_of(&self, name: &str, id: Uuid) -> Option<&'a Row> {
        if let Some(space) = self.own
            && let Some(place) = space.place_of(name)
        {
            return space.at(place)?.row(id);
        }
        let space = self.shared.filter(|_| self.tenant == Some(id))?;
        space.at(space.place_of(name)?)?.row(id)
    }

    /// The tables whose rows a tenant may see, and whether they are the platform's.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (bool, &'a Table)> {
        let own = self
            .own
            .into_iter()
            .flat_map(Space::tables)
            .map(|table| (false, table));
        own.chain(
            self.shared
                .into_iter()
                .flat_map(Space::tables)
                .map(|table| (true, table)),
        )
    }

    /// The number of the next commit of the tenant: one count for all its feeds, so that entries keep
    /// their places when they are moved from one to another.
    pub(crate) fn next_commit(&self) -> u64 {
        let own = self.own.into_iter().flat_map(Space::tables);
        let next = own.filter_map(Table::feed).map(Feed::next);
        next.max().unwrap_or(1)
    }

    /// The tenant of the scope.
    pub(crate) const fn tenant(&self) -> Option<Uuid> {
        self.tenant
    }
}

/// Whether answering a query over `object` takes the platform's rows too.
pub(crate) fn reaches_platform(object: &ObjectRef, condition: &Condition) -> bool {
    fn reaches(condition: &Condition) -> bool {
        match condition {
            Condition::Has {
                object, condition, ..
            }
            | Condition::Any {
                object, condition, ..
            } => reaches_platform(object, condition),
            Condition::InTree { tree, .. } => tree.object.scope() == ObjectScope::Platform,
            Condition::And(all) | Condition::Or(all) => all.iter().any(reaches),
            Condition::Not(one) => reaches(one),
            _ => false,
        }
    }
    object.scope() == ObjectScope::Platform || reaches(condition)
}

/// Up to how many rows are written in place. Readers wait meanwhile, for some microseconds a row.
const IN_PLACE: usize = 64;

/// The right to write to a tenant's space, with the state to check against.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    own: &'a Root,
    shared: Option<&'a Root>,
    snapshot: Snapshot,
    /// Whether tables of the snapshot are not those of the roots.
    is_new: bool,
}

impl Writer<'_> {
    pub(crate) fn view(&self) -> View<'_> {
        self.snapshot.view()
    }

    /// Makes sure that the view has a table for `object`.
    pub(crate) fn ensure(&mut self, object: &ObjectRef) -> Place {
        let shared = object.scope() == ObjectScope::Platform;
        let Snapshot {
            own,
            shared: platform,
            ..
        } = &mut self.snapshot;
        let space = if shared { platform } else { own };
        let (table, is_new) = Space::ensure(space.get_or_insert_default(), object);
        self.is_new |= is_new;
        Place { shared, table }
    }

    /// Writes rows that were checked against the view, at most one change a row, so that others see
    /// all of them or none.
    pub(crate) fn publish(self, rows: impl ExactSizeIterator<Item = (Place, Uuid, Option<Row>)>) {
        self.publish_at(rows.map(|(place, id, row)| (place, id, row, None)));
    }

    /// As [`publish`](Self::publish), with the numbers of the commits that entries of logs came with,
    /// where that is another one.
    pub(crate) fn publish_at(
        self,
        rows: impl ExactSizeIterator<Item = (Place, Uuid, Option<Row>, Option<u64>)>,
    ) {
        let Self {
            own,
            shared,
            snapshot,
            is_new,
        } = self;
        let view = snapshot.view();
        let next = view.next_commit();
        let edit = |(place, id, row, commit): (Place, Uuid, Option<Row>, Option<u64>)| {
            let commit = commit.unwrap_or(next);
            view.at(place)
                .map(|table| (place, table.edit(id, row, commit)))
        };
        if rows.len() <= IN_PLACE && !is_new {
            let edits: Vec<(Place, Edit)> = rows.filter_map(edit).collect();
            // Without this snapshot the nodes of the maps are changed where they are.
            drop(snapshot);
            let mut own = own.write();
            let mut shared = shared.map(Root::write);
            for (place, edit) in edits {
                if !place.shared {
                    Space::apply(&mut own, place.table, edit);
                } else if let Some(shared) = &mut shared {
                    Space::apply(shared, place.table, edit);
                }
            }
            return;
        }
        let mut next = (
            snapshot.own.clone().unwrap_or_default(),
            snapshot.shared.clone(),
        );
        for (place, edit) in rows.filter_map(edit) {
            if !place.shared {
                Space::apply(&mut next.0, place.table, edit);
            } else if let Some(shared) = &mut next.1 {
                Space::apply(shared, place.table, edit);
            }
        }
        let mut own = own.write();
        let mut shared = shared.map(Root::write);
        let old_own = std::mem::replace(&mut *own, next.0);
        let old_shared = match (&mut shared, next.1) {
            (Some(shared), Some(next)) => Some(std::mem::replace(&mut **shared, next)),
            _ => None,
        };
        // What nobody sees any more is freed when nobody waits.
        drop((own, shared));
        drop((old_own, old_shared));
    }
}

/// Hashes one id. Whoever makes tenants chooses their ids, and that is the host: nobody can send
/// ids that fall together.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, id: u128) {
        // Both halves of the product depend on all of the id.
        let mixed = u128::from((id >> 64) as u64 ^ id as u64 ^ self.0) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (mixed >> 64) as u64 ^ mixed as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
