//! [`Matcher`]: which territory takes an account, and which one a place.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::Territory;
use super::boundaries::Place;
use super::rules::bind;
use crate::accounts::Account;
use crate::query::{Condition, NoRelated};
use crate::record::Record;
use crate::schema::{Entity, FieldSet, Registry};
use crate::value::Address;

/// The active territories of a tenant, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    nodes: Vec<Node>,
    roots: Vec<usize>,
    fields: FieldSet,
}

#[derive(Debug)]
struct Node {
    territory: Arc<Record<Territory>>,
    criteria: Option<Condition>,
    depth: usize,
    below: Vec<usize>,
}

impl Matcher {
    /// Prepares territories. Those that are not active or archived are left out, with all below
    /// them, and so are those whose criteria do not fit the schema any more.
    pub(super) fn new(territories: Vec<Arc<Record<Territory>>>, registry: &Registry) -> Self {
        let mut matcher = Self::default();
        let mut below: HashMap<Uuid, Vec<(Node, FieldSet)>> = HashMap::new();
        let mut tops = Vec::new();
        for territory in territories {
            if !territory.is_active || territory.archived_at.is_some() {
                continue;
            }
            let bound = territory.criteria.as_ref().map(|own| bind(own, registry));
            let Ok(bound) = bound.transpose() else {
                tracing::warn!(territory = %territory.id, "the criteria do not fit accounts any more");
                continue;
            };
            let (criteria, fields) = bound.unzip();
            let parent = territory.parent_territory_id;
            let node = Node {
                territory,
                criteria,
                depth: 0,
                below: Vec::new(),
            };
            let node = (node, fields.unwrap_or_default());
            match parent {
                Some(parent) => below.entry(parent.uuid()).or_default().push(node),
                None => tops.push(node),
            }
        }
        // From the top down: what hangs on nothing active is never reached.
        let mut open: Vec<(Option<usize>, (Node, FieldSet))> =
            tops.into_iter().map(|node| (None, node)).collect();
        while let Some((above, (mut node, fields))) = open.pop() {
            let place = matcher.nodes.len();
            match above.and_then(|above| matcher.nodes.get_mut(above)) {
                Some(above) => {
                    node.depth = above.depth + 1;
                    above.below.push(place);
                }
                None => matcher.roots.push(place),
            }
            matcher.fields = matcher.fields.union(&fields);
            if node.territory.boundaries.is_some() {
                matcher.fields = matcher.fields.union(&address_fields());
            }
            let children = below.remove(&node.territory.id.uuid()).unwrap_or_default();
            open.extend(children.into_iter().map(|child| (Some(place), child)));
            matcher.nodes.push(node);
        }
        matcher
    }

    /// Whether there is no territory to match.
    pub(super) const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The fields of accounts that the territories look at.
    pub(super) const fn fields(&self) -> &FieldSet {
        &self.fields
    }

    /// The territory that takes an account: of those that fit it, with all above them, the deepest,
    /// then that with the lowest rank, then the first by name and id.
    pub(super) fn best(&self, account: &Record<Account>) -> Option<&Arc<Record<Territory>>> {
        let place = Place::of_account(account);
        let fits = |criteria: &Condition| criteria.matches(account, &NoRelated);
        self.first(
            |node| node.surrounds(&place) && node.criteria.as_ref().is_none_or(fits),
            Node::takes,
        )
    }

    /// The territory with a manager that takes a place, whatever is there: in the same order as for
    /// accounts. One that names criteria is for accounts alone and, with all below it, takes no place.
    pub(crate) fn covering(&self, place: &Place) -> Option<&Arc<Record<Territory>>> {
        self.first(
            |node| node.surrounds(place) && node.criteria.is_none(),
            |node| node.takes() && node.territory.manager_id.is_some(),
        )
    }

    /// Of the territories that are reached from the top through all that let through, the first one
    /// that takes.
    fn first(
        &self,
        lets_through: impl Fn(&Node) -> bool,
        takes: impl Fn(&Node) -> bool,
    ) -> Option<&Arc<Record<Territory>>> {
        let mut best: Option<&Node> = None;
        let mut open: Vec<usize> = self.roots.clone();
        while let Some(node) = open.pop().and_then(|place| self.nodes.get(place)) {
            if !lets_through(node) {
                continue;
            }
            open.extend(&node.below);
            if takes(node) && best.is_none_or(|best| node.order() < best.order()) {
                best = Some(node);
            }
        }
        best.map(|node| &node.territory)
    }
}

impl Node {
    /// Whether a place is within its boundaries.
    fn surrounds(&self, place: &Place) -> bool {
        let boundaries = self.territory.boundaries.as_ref();
        boundaries.is_none_or(|boundaries| boundaries.take(place))
    }

    /// Whether it takes accounts itself.
    fn takes(&self) -> bool {
        self.criteria.is_some() || self.territory.boundaries.is_some()
    }

    fn order(&self) -> (Reverse<usize>, i32, &str, Uuid) {
        let territory = &self.territory;
        let id = territory.id.uuid();
        (Reverse(self.depth), territory.rank, &territory.name, id)
    }
}

/// The fields by which boundaries find out where an account is.
fn address_fields() -> FieldSet {
    let mut fields = FieldSet::default();
    for address in [Account::BILLING_ADDRESS, Account::SHIPPING_ADDRESS] {
        let names = [
            address.at(Address::COUNTRY).name(),
            address.at(Address::POSTAL_CODE).name(),
        ];
        for name in names {
            if let Some(index) = Account::schema().field_index(&name) {
                fields.insert(index);
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Id;
    use crate::query::Criteria;
    use crate::record::{Actor, Stamp};
    use crate::schema::Meta;
    use crate::territories::{Area, Boundaries};
    use crate::value::{Country, TextValue};

    fn meta(number: usize) -> Meta {
        let at = chrono::DateTime::UNIX_EPOCH;
        Meta::first(
            Uuid::from_u128(number as u128 + 1),
            Stamp {
                at,
                by: Actor::System,
            },
        )
    }

    fn territory(number: usize, territory: Territory) -> Arc<Record<Territory>> {
        Arc::new(Record::new(meta(number), territory))
    }

    fn account(staff: i32, country: &str) -> Record<Account> {
        let address = Address {
            country: Some(Country::parse(country).unwrap()),
            ..Address::default()
        };
        let account = Account {
            employee_count: Some(staff),
            billing_address: Some(address),
            ..Account::new("Globex")
        };
        Record::new(meta(99), account)
    }

    fn matcher(territories: Vec<Territory>) -> Matcher {
        let all = territories.into_iter().enumerate();
        let all = all.map(|(number, own)| territory(number, own)).collect();
        Matcher::new(all, &Registry::default())
    }

    fn best(matcher: &Matcher, account: &Record<Account>) -> Option<String> {
        matcher
            .best(account)
            .map(|territory| territory.name.clone())
    }

    fn of(number: usize) -> Option<Id<Territory>> {
        Some(Id::new(Uuid::from_u128(number as u128 + 1)))
    }

    fn at_least(staff: i32) -> Option<Criteria> {
        Some(Account::EMPLOYEE_COUNT.ge(staff).into())
    }

    fn within(country: &str) -> Option<Boundaries> {
        Some(Boundaries(vec![Area::of(Country::parse(country).unwrap())]))
    }

    /// C-020: the picture of the module.
    #[test]
    fn the_deepest_that_fits_with_all_above_it_wins() {
        let territories = || {
            vec![
                Territory {
                    boundaries: within("CH"),
                    ..Territory::new("Switzerland")
                },
                Territory {
                    parent_territory_id: of(0),
                    ..Territory::new("Groups")
                },
                Territory {
                    parent_territory_id: of(1),
                    criteria: at_least(500),
                    ..Territory::new("Large")
                },
                Territory {
                    criteria: at_least(100),
                    ..Territory::new("Anywhere")
                },
            ]
        };
        let all = matcher(territories());
        assert_eq!(best(&all, &account(700, "CH")).as_deref(), Some("Large"));
        // A group takes nothing itself.
        assert_eq!(
            best(&all, &account(50, "CH")).as_deref(),
            Some("Switzerland")
        );
        // What fits only below is kept away by what is above.
        assert_eq!(best(&all, &account(700, "DE")).as_deref(), Some("Anywhere"));
        assert_eq!(best(&all, &account(50, "DE")), None);
        let mut closed = territories();
        closed[1].is_active = false;
        let closed = matcher(closed);
        assert_eq!(
            best(&closed, &account(700, "CH")).as_deref(),
            Some("Anywhere")
        );
    }

    /// A lead at a place goes to who looks after it: accounts' criteria say nothing about it.
    #[test]
    fn a_place_is_covered_by_the_deepest_with_a_manager() {
        let manager = Some(Id::new(Uuid::from_u128(77)));
        let territories = vec![
            Territory {
                boundaries: within("CH"),
                manager_id: manager,
                ..Territory::new("Switzerland")
            },
            Territory {
                parent_territory_id: of(0),
                boundaries: Some(Boundaries(vec![
                    Area::of(Country::parse("CH").unwrap()).with_prefix("80"),
                ])),
                ..Territory::new("Zürich, not managed")
            },
            Territory {
                parent_territory_id: of(1),
                boundaries: Some(Boundaries(vec![
                    Area::of(Country::parse("CH").unwrap()).with_prefix("801"),
                ])),
                manager_id: manager,
                ..Territory::new("Old town")
            },
            Territory {
                parent_territory_id: of(0),
                criteria: at_least(1),
                boundaries: within("CH"),
                manager_id: manager,
                ..Territory::new("Large")
            },
        ];
        let all = matcher(territories);
        let covering = |country: &str, code: &str| {
            let address = Some(Address {
                country: Some(Country::parse(country).unwrap()),
                postal_code: Some(code.into()),
                ..Address::default()
            });
            let found = all.covering(&Place::of([&address]));
            found.map(|territory| territory.name.clone())
        };
        assert_eq!(covering("CH", "8010").as_deref(), Some("Old town"));
        assert_eq!(covering("CH", "8050").as_deref(), Some("Switzerland"));
        assert_eq!(covering("CH", "3000").as_deref(), Some("Switzerland"));
        assert_eq!(covering("DE", "8010"), None);
        assert_eq!(all.covering(&Place::default()), None);
    }

    #[test]
    fn rank_and_then_the_name_decide_between_equals() {
        let territories = |rank: i32| {
            vec![
                Territory {
                    criteria: at_least(1),
                    rank,
                    ..Territory::new("B")
                },
                Territory {
                    criteria: at_least(2),
                    ..Territory::new("A")
                },
            ]
        };
        assert_eq!(
            best(&matcher(territories(0)), &account(5, "CH")).as_deref(),
            Some("A")
        );
        assert_eq!(
            best(&matcher(territories(-1)), &account(5, "CH")).as_deref(),
            Some("B")
        );
        assert_eq!(
            best(&matcher(territories(1)), &account(5, "CH")).as_deref(),
            Some("A")
        );
    }

    #[test]
    fn the_fields_are_those_that_are_looked_at() {
        let names = |territories| -> Vec<String> {
            let matcher = matcher(territories);
            let schema = Account::schema();
            matcher
                .fields()
                .iter()
                .map(|index| schema.field_name(index).to_owned())
                .collect()
        };
        assert!(names(vec![Territory::new("A")]).is_empty());
        let criteria = Territory {
            criteria: at_least(1),
            ..Territory::new("A")
        };
        assert_eq!(names(vec![criteria]), ["employee_count"]);
        let place = Territory {
            boundaries: within("CH"),
            ..Territory::new("A")
        };
        let fields = names(vec![place]);
        assert_eq!(
            fields,
            [
                "billing_postal_code",
                "billing_country",
                "shipping_postal_code",
                "shipping_country"
            ]
        );
    }

    proptest! {
        /// Whatever the tree and the order in which territories are read: the answer fits with all
        /// above it, nothing that fits is deeper, and it is always the same.
        #[test]
        fn the_match_is_right_and_the_same_in_any_order(
            given in prop::collection::vec(
                (prop::option::of(0..8_usize), prop::option::of(0..6_i32), -1..2_i32, any::<bool>()),
                1..9,
            ),
            staff in 0..6_i32,
            turn in 0..8_usize,
        ) {
            let all: Vec<_> = given
                .iter()
                .enumerate()
                .map(|(number, (parent, least, rank, is_active))| {
                    territory(number, Territory {
                        parent_territory_id: parent.and_then(of),
                        criteria: least.and_then(at_least),
                        rank: *rank,
                        is_active: *is_active || number % 3 > 0,
                        ..Territory::new(format!("T{}", number % 4))
                    })
                })
                .collect();
            let account = account(staff, "CH");
            // The depth of each that fits with all above it, by following parents.
            let fits = |number: usize| -> Option<usize> {
                let (mut next, mut depth) = (Some(number), 0);
                while let Some(number) = next {
                    let own = all.get(number)?;
                    let least = given[number].1;
                    if !own.is_active || least.is_some_and(|least| staff < least) || depth > 9 {
                        return None;
                    }
                    next = given[number].0;
                    depth += usize::from(next.is_some());
                }
                Some(depth)
            };
            let takers = (0..given.len()).filter(|number| given[*number].1.is_some());
            let expected = takers
                .filter_map(|number| Some((number, fits(number)?)))
                .min_by_key(|(number, depth)| {
                    let own = &all[*number];
                    (Reverse(*depth), own.rank, own.name.clone(), own.id.uuid())
                })
                .map(|(number, _)| all[number].id);
            let registry = Registry::default();
            let came = Matcher::new(all.clone(), &registry).best(&account).map(|own| own.id);
            prop_assert_eq!(came, expected);
            let mut turned = all.clone();
            turned.rotate_left(turn % all.len());
            let again = Matcher::new(turned, &registry).best(&account).map(|own| own.id);
            prop_assert_eq!(again, expected);
        }
    }
}
