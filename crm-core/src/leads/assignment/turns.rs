//! Whose turn it is, over ids alone.

use uuid::Uuid;

/// The users in the order in which they are asked: by id, from the one behind the last who got
/// something, around to that one.
///
/// Who is skipped because of being busy is not made up for later; among those who are always free
/// the counts differ by one at most, whoever comes and goes besides.
pub(super) fn in_turn(users: &[Uuid], last: Option<Uuid>) -> Vec<Uuid> {
    let mut order = users.to_vec();
    order.sort_unstable();
    order.dedup();
    if let Some(last) = last {
        let behind = order.partition_point(|user| *user <= last);
        order.rotate_left(behind);
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_turn_goes_around() {
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(in_turn(&[c, a, b, a], None), [a, b, c]);
        assert_eq!(in_turn(&[a, b, c], Some(a)), [b, c, a]);
        assert_eq!(in_turn(&[a, b, c], Some(c)), [a, b, c]);
        // The last one is gone: whoever comes behind is next.
        assert_eq!(in_turn(&[a, c], Some(b)), [c, a]);
        assert!(in_turn(&[], Some(a)).is_empty());
    }

    proptest! {
        /// Whoever is busy at whatever time: those who are always free get the same, but for one.
        #[test]
        fn those_who_are_always_free_get_the_same(
            busy in prop::collection::vec(prop::collection::vec(any::<bool>(), 6), 0..60),
            always_free in prop::collection::vec(any::<bool>(), 6),
        ) {
            let users: Vec<Uuid> = (1..=6).map(Uuid::from_u128).collect();
            let mut last = None;
            let mut counts: BTreeMap<Uuid, u32> = BTreeMap::new();
            for busy in &busy {
                let place = |user: &Uuid| users.iter().position(|one| one == user).unwrap();
                let is_free = |user: &Uuid| always_free[place(user)] || !busy[place(user)];
                let Some(next) = in_turn(&users, last).into_iter().find(is_free) else {
                    continue;
                };
                *counts.entry(next).or_default() += 1;
                last = Some(next);
            }
            let of_free = users.iter().zip(&always_free).filter(|(_, free)| **free);
            let of_free: Vec<u32> = of_free
                .map(|(user, _)| counts.get(user).copied().unwrap_or_default())
                .collect();
            if let (Some(least), Some(most)) = (of_free.iter().min(), of_free.iter().max()) {
                prop_assert!(most - least <= 1, "{of_free:?}");
            }
        }
    }
}
