//! What the example prints.

use std::sync::Arc;

use crm_engine::prelude::*;
use crm_engine::query::Group;
use crm_engine::schema::ValueRef;
use crm_engine::scoring::{ScoreExplanation, Simulation};

/// How many scores share a bar.
const BAND: usize = 10;

/// The longest bar, in characters.
const LONGEST: u64 = 50;

/// A bar for every ten scores; 100 is in the last one.
pub(crate) fn histogram(by_score: &[Group]) {
    let mut bands = [0_u64; 100 / BAND];
    let (mut leads, mut sum) = (0, 0);
    for group in by_score {
        let ValueRef::Integer(score) = group.key(0) else {
            continue;
        };
        let (score, count) = (u64::try_from(score).unwrap_or_default(), group.count(0));
        leads += count;
        sum += score * count;
        let band = usize::try_from(score).map_or(0, |score| score / BAND);
        let last = bands.len() - 1;
        if let Some(band) = bands.get_mut(band.min(last)) {
            *band += count;
        }
    }
    println!("\nscore");
    let most = bands.iter().copied().max().unwrap_or_default().max(1);
    for (number, count) in bands.iter().enumerate() {
        let from = number * BAND;
        let to = if from + BAND == 100 {
            100
        } else {
            from + BAND - 1
        };
        // Some leads are never no bar.
        let length = (count * LONGEST).div_ceil(most);
        let bar = "█".repeat(usize::try_from(length).unwrap_or_default());
        println!("{from:>3} to {to:>3} {count:>7} {bar}");
    }
    if leads > 0 {
        println!("{leads} leads, {:.1} on average", sum as f64 / leads as f64);
    }
}

/// How many leads have which grade.
pub(crate) fn grades(by_grade: &[Group]) {
    let told = by_grade.iter().map(|group| {
        let grade = match group.key(0) {
            ValueRef::Text(grade) => grade,
            _ => "none",
        };
        format!("{grade} {}", group.count(0))
    });
    println!("grades: {}", told.collect::<Vec<_>>().join(", "));
}

/// Who a lead is.
fn who(lead: &Lead) -> String {
    let name = lead.name.as_ref().and_then(PersonName::full_name);
    let parts = [name, lead.company.clone()];
    let told: Vec<String> = parts.into_iter().flatten().collect();
    told.join(", ")
}

fn grade(grade: Option<&str>) -> &str {
    grade.unwrap_or("none")
}

/// Which rule gives a lead what.
pub(crate) fn explanation(lead: &Lead, told: &ScoreExplanation) {
    println!("\nwhy {} scores {}:", who(lead), told.score);
    for rule in &told.rules {
        let group = rule.group.as_ref();
        let group = group.map_or(String::new(), |group| format!(", group {group}"));
        let kind = rule.rule_type.as_str();
        println!("{:>+6}  {} ({kind}{group})", rule.points, rule.name);
    }
    for group in told.groups.iter().filter(|group| group.sum != group.points) {
        let change = group.points - group.sum;
        println!(
            "{change:>+6}  limit of group {}: {} instead of {}",
            group.name, group.points, group.sum
        );
    }
    if let Some(decay) = told.decay.filter(|decay| decay.before != decay.after) {
        let change = decay.after - decay.before;
        println!("{change:>+6}  faded in {} days", decay.days);
    }
    if told.adjustment != 0 {
        println!("{:>+6}  by hand", told.adjustment);
    }
    println!(
        "{:>6}  in all, which is a score of {} and the grade {}",
        told.points + told.adjustment,
        told.score,
        grade(told.grade.as_deref())
    );
}

/// What a draft would change.
pub(crate) fn simulation(name: &str, told: &Simulation, leads: &[Arc<Record<Lead>>]) {
    println!(
        "\nif the draft \"{name}\" were published: {} of {} leads would have another score, {} another grade",
        told.changed, told.checked, told.regraded
    );
    for ((from, to), count) in &told.grades {
        let (from, to) = (grade(from.as_deref()), grade(to.as_deref()));
        println!("{count:>7}  from {from} to {to}");
    }
    if told.leads.is_empty() {
        return;
    }
    println!("such as");
    for change in &told.leads {
        let lead = leads.iter().find(|lead| lead.id == change.lead);
        println!(
            "{:>7} to {:>3}  {} to {}  {}",
            change.from.value(),
            change.to.value(),
            grade(change.from_grade.as_deref()),
            grade(change.to_grade.as_deref()),
            lead.map_or_else(String::new, |lead| who(lead))
        );
    }
}
