//! The report as text.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use super::report::{Figures, Report};

impl Report {
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        print_counts(out, "Created", &self.created)?;
        print_counts(out, "There already", &self.already_there)?;
        self.print_rejected(out)?;
        self.print_funnel(out)?;
        self.print_quarters(out)?;
        print_figures(out, "agent", &self.by_agent)?;
        print_figures(out, "region", &self.by_region)?;
        print_figures(out, "product", &self.by_product_fixed)?;
        print_figures(out, "account", &self.by_account)
    }

    fn print_rejected(&self, out: &mut impl Write) -> io::Result<()> {
        if self.rejected.is_empty() {
            return writeln!(out, "All rows were taken over.");
        }
        writeln!(out, "Not taken over:")?;
        for row in &self.rejected {
            writeln!(
                out,
                "  {}, line {}: {} {}",
                row.file, row.line, row.key, row.reason
            )?;
        }
        Ok(())
    }

    fn print_funnel(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n{:<24}{:>12}{:>12}", "stage", "entered", "there now")?;
        let (entered, now) = (self.entered, self.stages);
        for (stage, entered, now) in [
            ("Prospecting", entered.prospecting, now.prospecting),
            ("Engaging", entered.engaging, now.engaging),
            ("Won", entered.won, now.won),
            ("Lost", entered.lost, now.lost),
        ] {
            writeln!(out, "{stage:<24}{entered:>12}{now:>12}")?;
        }
        let win_rate = shown(self.win_rate.as_deref());
        writeln!(
            out,
            "\nwin rate {win_rate}, won value {} USD",
            self.won_value
        )
    }

    fn print_quarters(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\n{:<24}{:>8}{:>8}{:>14}",
            "closed in", "won", "lost", "won value"
        )?;
        for (quarter, closed) in &self.by_close_quarter {
            let (won, lost, value) = (closed.won, closed.lost, closed.won_value);
            writeln!(out, "{quarter:<24}{won:>8}{lost:>8}{value:>14}")?;
        }
        Ok(())
    }
}

fn print_counts(
    out: &mut impl Write,
    title: &str,
    counts: &BTreeMap<&'static str, u64>,
) -> io::Result<()> {
    let counts: Vec<String> = counts
        .iter()
        .map(|(object, count)| format!("{object} {count}"))
        .collect();
    match counts.as_slice() {
        [] => writeln!(out, "{title}: nothing."),
        counts => writeln!(out, "{title}: {}.", counts.join(", ")),
    }
}

/// A table, the one who won most first.
fn print_figures(
    out: &mut impl Write,
    title: &str,
    all: &BTreeMap<String, Figures>,
) -> io::Result<()> {
    writeln!(
        out,
        "\n{title:<28}{:>7}{:>7}{:>7}{:>11}{:>14}{:>14}{:>11}",
        "deals", "won", "lost", "win rate", "won value", "average", "days"
    )?;
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_key(|(_, figures)| Reverse(figures.won_value_sum));
    for (name, figures) in sorted {
        writeln!(
            out,
            "{:<28}{:>7}{:>7}{:>7}{:>11}{:>14}{:>14}{:>11}",
            if name.is_empty() { "(none)" } else { name },
            figures.deals,
            figures.stages.won,
            figures.stages.lost,
            shown(figures.win_rate_won_over_closed.as_deref()),
            figures.won_value_sum,
            shown(figures.won_value_avg.as_deref()),
            shown(figures.cycle_days_avg_closed.as_deref()),
        )?;
    }
    Ok(())
}

fn shown(figure: Option<&str>) -> &str {
    figure.unwrap_or("-")
}
