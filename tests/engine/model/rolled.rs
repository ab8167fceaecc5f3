//! Operations by chance.

use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;
use serde_json::json;
use uuid::Uuid;

use super::{OBJECTS, Operation, World};

/// Numbers that look random and are the same in every run (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    pub(super) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }

    pub(super) fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.roll(3) > 0).then_some(value)
    }
}

/// One of the two tenants, as it is and as the model says that it is.
pub(super) struct Side {
    pub(super) onboarded: Onboarded,
    pub(super) session: Session,
    pub(super) world: World,
}

/// Rolls an operation on records of `own`, now and then on one of `other` or on none at all.
pub(super) fn rolled(dice: &mut Dice, own: &World, other: &World) -> Operation {
    use Operation as Op;
    fn one(dice: &mut Dice, own: &World, other: &World, object: &str) -> Uuid {
        let world = if dice.roll(20) == 0 { other } else { own };
        let all: Vec<_> = world.items.keys().filter(|key| key.0 == object).collect();
        // The younger half is where most things happen.
        let live: Vec<_> = all
            .iter()
            .copied()
            .filter(|key| world.items[*key].is_live())
            .collect();
        let pool = if dice.roll(4) == 0 || live.is_empty() {
            &all
        } else {
            &live
        };
        if pool.is_empty() || dice.roll(40) == 0 {
            return Uuid::from_u128(dice.roll(9) as u128 + 1);
        }
        let newest = pool.len().saturating_sub(8);
        let from = if dice.roll(2) == 0 { newest } else { 0 };
        pool[from + dice.roll(pool.len() - from)].1
    }
    fn email(dice: &mut Dice) -> Option<String> {
        let name = dice.pick(&[
            "hank", "Hank", "homer", "marge", "MARGE", "bart", "lisa", "moe",
        ]);
        let host = dice.pick(&["a", "b", "c"]);
        dice.maybe(format!("{name}@{host}.example"))
    }
    let one = |dice: &mut Dice, object: &str| one(dice, own, other, object);
    let whole = [0, 5, 20, 33, 50, 75, 90, 100];
    match dice.roll(40) {
        0..=2 => {
            let parent = one(dice, "account");
            Op::CreateAccount {
                name: format!("A{}", dice.roll(50)),
                parent: dice.maybe(parent),
            }
        }
        3..=5 => {
            let (id, parent) = (one(dice, "account"), one(dice, "account"));
            Op::SetParent {
                id,
                parent: dice.maybe(parent),
            }
        }
        6 => Op::CountUp {
            id: one(dice, "account"),
        },
        7..=9 => {
            let patch = match dice.roll(5) {
                0 => json!({"name": format!("A{}", dice.roll(50))}),
                1 => json!({"tags": [dice.pick(&["a", "b"]), "c"]}),
                2 => json!({"custom_fields": {"rate": dice.roll(9) as f64 / 4.0, "x": null}}),
                3 => json!({"custom_fields": {"x": ["1.5", {"y": dice.roll(3)}], "rate": null}}),
                _ => json!({"employee_count": dice.roll(5), "custom_fields": {"text": "1.5"}}),
            };
            Op::MergeAccount {
                id: one(dice, "account"),
                stale: dice.roll(6) == 0,
                patch,
            }
        }
        10..=12 => {
            let account = one(dice, "account");
            Op::CreateContact {
                email: email(dice),
                account: dice.maybe(account),
            }
        }
        13 => Op::SetEmail {
            id: one(dice, "contact"),
            email: email(dice),
        },
        14 => Op::CreatePipeline {
            name: format!("P{}", dice.roll(12)),
            is_default: dice.roll(2) == 0,
        },
        15 => Op::SetDefault {
            id: one(dice, "pipeline"),
        },
        16 | 17 => Op::AddStage {
            pipeline: one(dice, "pipeline"),
            name: format!("S{}", dice.roll(8)),
            stage_type: dice.pick(&[StageType::Open, StageType::ClosedWon, StageType::ClosedLost]),
        },
        18 => Op::WeighStage {
            id: one(dice, "pipeline_stage"),
            percent: dice.pick(&whole),
        },
        19 => Op::Reorder {
            pipeline: one(dice, "pipeline"),
        },
        20 => {
            let (id, target) = (one(dice, "pipeline_stage"), one(dice, "pipeline_stage"));
            Op::DeleteStage {
                id,
                target: dice.maybe(target),
            }
        }
        21..=23 => {
            let (account, contact) = (one(dice, "account"), one(dice, "contact"));
            Op::CreateDeal {
                pipeline: one(dice, "pipeline"),
                account: dice.maybe(account),
                contact: dice.maybe(contact),
            }
        }
        24..=26 => {
            let id = one(dice, "deal");
            let pipeline = own
                .items
                .get(&("deal", id))
                .and_then(|deal| deal.id("pipeline_id"));
            let stages = pipeline
                .map(|pipeline| own.stages(pipeline))
                .unwrap_or_default();
            let stage = match stages.get(dice.roll(7)) {
                Some((stage, _)) => *stage,
                None => one(dice, "pipeline_stage"),
            };
            Op::Move { id, stage }
        }
        27 => Op::Close {
            id: one(dice, "deal"),
            won: dice.roll(2) == 0,
        },
        28 => Op::Reopen {
            id: one(dice, "deal"),
        },
        29 => {
            let percent = dice.pick(&whole);
            Op::SetProbability {
                id: one(dice, "deal"),
                percent: dice.maybe(percent),
            }
        }
        30 | 31 => {
            let links = ["account", "contact", "deal"].map(|object| {
                let id = one(dice, object);
                (dice.roll(2) == 0).then_some(id)
            });
            Op::CreateActivity {
                subject: format!("Call {}", dice.roll(50)),
                links,
            }
        }
        32 => Op::Complete {
            id: one(dice, "activity"),
        },
        33 => Op::OpenAgain {
            id: one(dice, "activity"),
        },
        choice => {
            let object = dice.pick(&OBJECTS).0;
            let id = one(dice, object);
            match choice {
                34 => Op::Archive { object, id },
                35 => Op::Unarchive { object, id },
                36 => Op::Restore { object, id },
                37 => Op::Purge { object, id },
                _ => Op::Delete { object, id },
            }
        }
    }
}
