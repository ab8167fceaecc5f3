//! [`CompiledRuleSet`]: a rule set ready to score leads.

use std::borrow::Borrow;

use chrono::{DateTime, Utc};

use super::cells::{Line, Slot, Sums, Weighted};
use super::condition::{Circumstances, Range, Test, age, bind, bind_decay, moment_at};
use super::entity::{LeadScoringRule, LeadScoringRuleSet, ScoringRuleType};
use super::explanation::{
    DecayEffect, GroupEffect, PointsGiven, RuleEffect, RulePoints, ScoreExplanation, Scored,
};
use super::settings::{ActivityCount, Decay, MAX_GROUPS};
use super::table::{FieldTable, Layout, add_fields};
use crate::Id;
use crate::error::{Faults, FieldError, Result, codes};
use crate::leads::Lead;
use crate::query::FieldAt;
use crate::record::Record;
use crate::schema::{FieldSet, Registry};

/// Two for each group, and two for the rules without one.
pub(super) const SLOTS: usize = 2 * (MAX_GROUPS + 1);

/// The most rules of a set.
pub const MAX_RULES: usize = 2_000;

/// A rule set ready to score leads: bound to the schema, and laid out by field, so that a lead costs
/// one look-up for each field that rules look at, however many rules there are.
///
/// ```
/// use crm_core::leads::Lead;
/// use crm_core::schema::{Meta, Registry};
/// use crm_core::scoring::{
///     CompiledRuleSet, LeadScoringRule, LeadScoringRuleSet, ScoringOperator, ScoringRuleType,
/// };
/// use crm_core::{Actor, Id, Record, Stamp};
/// # let at = chrono::DateTime::UNIX_EPOCH;
/// # let meta = |id| Meta::first(uuid::Uuid::from_u128(id), Stamp { at, by: Actor::System });
///
/// let set = Record::new(meta(1), LeadScoringRuleSet::new("2026"));
/// let rule = LeadScoringRule {
///     condition_value: Some("software".into()),
///     ..LeadScoringRule::new(
///         set.id,
///         "Our industry",
///         ScoringRuleType::Firmographic,
///         "industry",
///         ScoringOperator::Equals,
///         30,
///     )
/// };
/// let rules = [Record::new(meta(2), rule)];
/// let compiled = CompiledRuleSet::new(&set, &rules, &Registry::default())?;
///
/// let lead = Lead { industry: Some("software".into()), ..Lead::default() };
/// let lead = Record::new(meta(3), lead);
/// assert_eq!(compiled.score(&lead, &[], at).score.value(), 30);
/// assert_eq!(compiled.explain(&lead, &[], at).rules[0].name, "Our industry");
/// # Ok::<(), crm_core::Error>(())
/// ```
#[derive(Clone)]
pub struct CompiledRuleSet {
    set: Record<LeadScoringRuleSet>,
    /// In the order of explanations.
    rules: Vec<CompiledRule>,
    fields: FieldSet,
    counted: Vec<ActivityCount>,
    /// The limits of each group; first those of the rules without one.
    limits: Vec<Limits>,
    /// The place of the moment from which on points fade.
    fades_since: Option<FieldAt>,
    tables: Vec<(usize, FieldTable)>,
    ages: Vec<(FieldAt, Line<i64>)>,
    counts: Vec<(usize, Line<i64>)>,
    /// Conditions that fit into no table.
    rest: Vec<Weighted<Test>>,
}

#[derive(Clone, Debug)]
struct CompiledRule {
    id: Id<LeadScoringRule>,
    name: String,
    rule_type: ScoringRuleType,
    /// The place of its group among the limits.
    group: usize,
    slot: Slot,
    points: i64,
    test: Test,
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    minimum: Option<i64>,
    maximum: Option<i64>,
}

impl Limits {
    fn new(minimum: Option<i32>, maximum: Option<i32>) -> Self {
        Self {
            minimum: minimum.map(i64::from),
            maximum: maximum.map(i64::from),
        }
    }

    fn apply(self, points: i64) -> i64 {
        let points = self.maximum.map_or(points, |most| points.min(most));
        self.minimum.map_or(points, |least| points.max(least))
    }
}

/// Does not show the rules: their values may be personal.
impl std::fmt::Debug for CompiledRuleSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledRuleSet")
            .field("set", &self.set.id)
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

/// What sums of points come to.
struct Combined {
    /// By group: what its rules give, and what is left of that within its limits.
    groups: Vec<(i64, i64)>,
    decay: Option<DecayEffect>,
    points: i64,
}

impl CompiledRuleSet {
    /// Compiles the active rules of a set.
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) with everything that does not fit: the field
    /// `rules.<name of the rule>.condition_value`, for example.
    pub fn new<R: Borrow<Record<LeadScoringRule>>>(
        set: &Record<LeadScoringRuleSet>,
        rules: &[R],
        registry: &Registry,
    ) -> Result<Self> {
        let mut faults = Faults::default();
        let compiled = Self::with_faults(set, rules, registry, &mut faults);
        faults.into_result()?;
        Ok(compiled)
    }

    /// Compiles what fits, and tells what does not.
    pub(super) fn with_faults<R: Borrow<Record<LeadScoringRule>>>(
        set: &Record<LeadScoringRuleSet>,
        rules: &[R],
        registry: &Registry,
        faults: &mut Faults,
    ) -> Self {
        if rules.len() > MAX_RULES {
            faults.add(
                "rules",
                codes::TOO_MANY,
                "a rule set has at most 2000 rules",
            );
        }
        let mut fields = FieldSet::default();
        let mut fades_since = None;
        if let Some(decay) = &set.decay {
            match bind_decay(decay, registry) {
                Ok(at) => {
                    fields.insert(at.index);
                    fades_since = Some(at);
                }
                Err(fault) => faults.push(fault),
            }
        }
        let groups = set.groups.0.iter().take(MAX_GROUPS);
        let groups = groups.map(|group| Limits::new(group.minimum, group.maximum));
        let limits = std::iter::once(Limits::default()).chain(groups).collect();
        let mut compiled = Self {
            set: set.clone(),
            rules: Vec::new(),
            fields,
            counted: Vec::new(),
            limits,
            fades_since,
            tables: Vec::new(),
            ages: Vec::new(),
            counts: Vec::new(),
            rest: Vec::new(),
        };
        let mut applied: Vec<&Record<LeadScoringRule>> = rules
            .iter()
            .map(Borrow::borrow)
            .filter(|rule| rule.is_active && rule.archived_at.is_none())
            .filter(|rule| rule.deleted_at.is_none())
            .collect();
        applied.sort_by(|one, other| {
            (one.priority, &one.name, one.id.uuid()).cmp(&(
                other.priority,
                &other.name,
                other.id.uuid(),
            ))
        });
        for rule in applied {
            if let Err(mut fault) = compiled.add(rule, registry) {
                fault.path = format!("rules.{}.{}", rule.name, fault.path);
                faults.push(fault);
            }
        }
        compiled.lay_out();
        compiled
    }

    fn add(
        &mut self,
        rule: &Record<LeadScoringRule>,
        registry: &Registry,
    ) -> Result<(), FieldError> {
        let bound = bind(rule, registry)?;
        let group = group_of(&self.set, rule)?;
        let fades = |decay: &Decay| decay.fades(rule.rule_type);
        let slot = 2 * group + usize::from(self.set.decay.as_ref().is_some_and(fades));
        self.fields = self.fields.union(&bound.fields);
        if let Test::Count { counted, .. } = &bound.test
            && !self.counted.contains(counted)
        {
            self.counted.push(*counted);
        }
        self.rules.push(CompiledRule {
            id: rule.id,
            name: rule.name.clone(),
            rule_type: rule.rule_type,
            group,
            slot,
            points: rule.score_change.into(),
            test: bound.test,
        });
        Ok(())
    }

    /// Lays the rules into tables, by what they look at.
    fn lay_out(&mut self) {
        let mut layout = Layout::default();
        let mut ages: Vec<(&FieldAt, Vec<Weighted<&Range>>)> = Vec::new();
        let mut counts: Vec<Vec<Weighted<&Range>>> = vec![Vec::new(); self.counted.len()];
        let mut rest = Vec::new();
        for rule in &self.rules {
            let (slot, points) = (rule.slot, rule.points);
            match &rule.test {
                Test::Field(condition) => {
                    if !layout.take(condition, slot, points) {
                        rest.push((rule.test.clone(), slot, points));
                    }
                }
                Test::Entries { field, has } if field.member.is_none() => {
                    layout.take_entries(field.index, *has, slot, points);
                }
                Test::Entries { .. } => rest.push((rule.test.clone(), slot, points)),
                Test::Age { field, range } => {
                    let rule = (range, slot, points);
                    match ages.iter_mut().find(|(other, _)| *other == field) {
                        Some((_, rules)) => rules.push(rule),
                        None => ages.push((field, vec![rule])),
                    }
                }
                Test::Count { counted, range } => {
                    let place = self.counted.iter().position(|other| other == counted);
                    if let Some(rules) = place.and_then(|place| counts.get_mut(place)) {
                        rules.push((range, slot, points));
                    }
                }
            }
        }
        let ages = ages.into_iter();
        let ages = ages.map(|(field, rules)| (field.clone(), Line::of_ranges(&rules)));
        let counts = counts.iter().map(|rules| Line::of_ranges(rules));
        let (ages, counts) = (ages.collect(), counts.enumerate().collect());
        (self.ages, self.counts, self.rest) = (ages, counts, rest);
        self.tables = layout.finish();
    }

    /// The rule set.
    #[must_use]
    pub const fn set(&self) -> &Record<LeadScoringRuleSet> {
        &self.set
    }

    /// How many rules are applied.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The fields of leads that the rules look at, that of the decay included.
    #[must_use]
    pub const fn fields(&self) -> &FieldSet {
        &self.fields
    }

    /// Which activities the rules count: [`score`](Self::score) wants one number for each.
    #[must_use]
    pub fn counted(&self) -> &[ActivityCount] {
        &self.counted
    }

    /// The score of a lead, from its fields, the numbers of its activities, as
    /// [`counted`](Self::counted) asks for them, and the time.
    #[must_use]
    pub fn score(&self, lead: &Record<Lead>, counts: &[i64], now: DateTime<Utc>) -> Scored {
        Scored::new(&self.set, lead, self.points(lead, counts, now))
    }

    /// What the rules give a lead, within all limits and faded; without adjustments by hand.
    #[must_use]
    pub fn points(&self, lead: &Record<Lead>, counts: &[i64], now: DateTime<Utc>) -> i64 {
        let mut sums: Sums = [0; SLOTS];
        add_fields(&self.tables, lead, &mut sums);
        for (field, line) in &self.ages {
            if let Some(moment) = moment_at(lead, field) {
                line.add(age(moment, now), &mut sums);
            }
        }
        for (place, line) in &self.counts {
            line.add(counts.get(*place).copied().unwrap_or_default(), &mut sums);
        }
        let around = Circumstances {
            counts,
            counted: &self.counted,
            now,
        };
        for (test, slot, points) in &self.rest {
            if test.is_met(lead, &around)
                && let Some(sum) = sums.get_mut(*slot)
            {
                *sum += points;
            }
        }
        self.total(&sums, lead, now)
    }

    /// What sums come to, without keeping how.
    fn total(&self, sums: &Sums, lead: &Record<Lead>, now: DateTime<Utc>) -> i64 {
        let (mut lasting, mut fading) = (0, 0);
        for (pair, limits) in sums.chunks_exact(2).zip(&self.limits) {
            if let [stays, fades] = pair {
                let kept = limits.apply(*stays);
                lasting += kept;
                fading += limits.apply(stays + fades) - kept;
            }
        }
        if let (Some(decay), true) = (&self.set.decay, fading != 0) {
            fading = decay.points(fading, self.days(lead, now));
        }
        Limits::new(self.set.minimum, self.set.maximum).apply(lasting + fading)
    }

    /// For how many full days points have been fading.
    fn days(&self, lead: &Record<Lead>, now: DateTime<Utc>) -> i64 {
        let since = self.fades_since.as_ref();
        let since = since.and_then(|field| moment_at(lead, field));
        (now - since.unwrap_or(lead.created.at)).num_days().max(0)
    }

    /// What sums come to, and how.
    fn combine(&self, sums: &Sums, lead: &Record<Lead>, now: DateTime<Utc>) -> Combined {
        let pairs = sums.chunks_exact(2).zip(&self.limits);
        let parts = pairs.filter_map(|(pair, limits)| match pair {
            // What lasts counts first; what fades is what the other rules add to it.
            [stays, fades] => {
                let kept = limits.apply(*stays);
                Some((stays + fades, kept, limits.apply(stays + fades)))
            }
            _ => None,
        });
        let parts: Vec<(i64, i64, i64)> = parts.collect();
        let lasting: i64 = parts.iter().map(|(_, kept, _)| kept).sum();
        let before: i64 = parts.iter().map(|(_, kept, all)| all - kept).sum();
        let decay = self.set.decay.as_ref().map(|decay| {
            let days = self.days(lead, now);
            let after = decay.points(before, days);
            DecayEffect {
                days,
                before,
                after,
            }
        });
        let points = lasting + decay.map_or(before, |decay| decay.after);
        let limits = Limits::new(self.set.minimum, self.set.maximum);
        Combined {
            groups: parts.iter().map(|(sum, _, all)| (*sum, *all)).collect(),
            decay,
            points: limits.apply(points),
        }
    }

    /// The rules that a lead meets, one by one, and what they come to.
    fn met(
        &self,
        lead: &Record<Lead>,
        counts: &[i64],
        now: DateTime<Utc>,
    ) -> (Vec<&CompiledRule>, Combined) {
        let around = Circumstances {
            counts,
            counted: &self.counted,
            now,
        };
        let rules = self.rules.iter();
        let met: Vec<_> = rules
            .filter(|rule| rule.test.is_met(lead, &around))
            .collect();
        let mut sums: Sums = [0; SLOTS];
        for rule in &met {
            if let Some(sum) = sums.get_mut(rule.slot) {
                *sum += rule.points;
            }
        }
        let combined = self.combine(&sums, lead, now);
        (met, combined)
    }

    /// Which rule gives a lead what, and how the score comes of that. Asks every rule by itself, so
    /// it takes longer than [`score`](Self::score).
    #[must_use]
    pub fn explain(
        &self,
        lead: &Record<Lead>,
        counts: &[i64],
        now: DateTime<Utc>,
    ) -> ScoreExplanation {
        let (met, combined) = self.met(lead, counts, now);
        let names = self.set.groups.0.iter().map(|group| &group.name);
        let name = |place: usize| names.clone().nth(place.checked_sub(1)?).cloned();
        let groups = names.clone().zip(combined.groups.iter().skip(1));
        let scored = Scored::new(&self.set, lead, combined.points);
        ScoreExplanation {
            rule_set: Some(self.set.id),
            rules: met
                .iter()
                .map(|rule| RuleEffect {
                    rule: rule.id,
                    name: rule.name.clone(),
                    rule_type: rule.rule_type,
                    group: name(rule.group),
                    points: rule.points,
                })
                .collect(),
            groups: groups
                .map(|(name, (sum, points))| GroupEffect {
                    name: name.clone(),
                    sum: *sum,
                    points: *points,
                })
                .collect(),
            decay: combined.decay,
            points: combined.points,
            adjustment: lead.score_adjustment.into(),
            score: scored.score,
            grade: scored.grade,
        }
    }

    /// What the history keeps of a score.
    pub(super) fn given(
        &self,
        lead: &Record<Lead>,
        counts: &[i64],
        now: DateTime<Utc>,
    ) -> PointsGiven {
        let (met, combined) = self.met(lead, counts, now);
        let rules: Vec<RulePoints> = met
            .iter()
            .map(|rule| RulePoints {
                name: rule.name.clone(),
                points: rule.points,
            })
            .collect();
        let sum: i64 = rules.iter().map(|rule| rule.points).sum();
        let decay = combined.decay.map_or(0, |decay| decay.after - decay.before);
        PointsGiven {
            rules,
            limits: combined.points - decay - sum,
            decay,
            points: combined.points,
        }
    }
}

/// The place of a rule's group among the limits.
pub(super) fn group_of(
    set: &LeadScoringRuleSet,
    rule: &LeadScoringRule,
) -> Result<usize, FieldError> {
    let Some(name) = &rule.group_name else {
        return Ok(0);
    };
    let mut groups = set.groups.0.iter().take(MAX_GROUPS);
    let place = groups.position(|group| group.name == *name);
    place.map(|place| place + 1).ok_or_else(|| {
        let message = "must be the name of a group of the rule set";
        FieldError::new("group_name", codes::NOT_FOUND, message)
    })
}
