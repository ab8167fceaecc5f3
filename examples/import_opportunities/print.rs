//! The report as text.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use super::analytics::ForecastFigures;
use super::figures::{Closed, Figures};
use super::import::ROTTING_AFTER_DAYS;
use super::report::Report;

impl Report {
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        print_counts(out, "Created", &self.created)?;
        print_counts(out, "There already", &self.already_there)?;
        self.print_rejected(out)?;
        self.print_funnel(out)?;
        self.print_cycle(out)?;
        print_closed(out, &self.by_close_quarter)?;
        print_closed(out, &self.by_close_month)?;
        print_numbers(out, "engaged in", &self.engaged_by_quarter)?;
        self.print_open_pipeline(out)?;
        self.print_forecasts(out)?;
        print_figures(out, "region", &self.by_region)?;
        print_figures(out, "manager", &self.by_manager)?;
        print_figures(out, "agent", &self.by_agent)?;
        print_figures(out, "series", &self.by_series)?;
        print_figures(out, "product", &self.by_product_fixed)?;
        print_figures(out, "sector", &self.by_sector)?;
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
        writeln!(
            out,
            "\n{:<24}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "stage", "entered", "advanced", "won", "lost", "there now", "conversion"
        )?;
        for stage in &self.analytics.funnel {
            writeln!(
                out,
                "{:<24}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
                stage.stage,
                stage.entered,
                stage.advanced,
                stage.won,
                stage.lost,
                stage.still,
                shown(stage.conversion.as_deref()),
            )?;
        }
        let win_rate = shown(self.win_rate.as_deref());
        writeln!(
            out,
            "\nwin rate {win_rate}, won value {} USD",
            self.won_value
        )
    }

    fn print_cycle(&self, out: &mut impl Write) -> io::Result<()> {
        let cycle = &self.analytics.cycle;
        for (outcome, average, median) in [
            ("won", &cycle.won_days_avg, &cycle.won_days_median),
            ("lost", &cycle.lost_days_avg, &cycle.lost_days_median),
        ] {
            let (average, median) = (shown(average.as_deref()), shown(median.as_deref()));
            writeln!(
                out,
                "sales cycle {outcome}: {average} days on average, median {median}"
            )?;
        }
        let spread = &self.analytics;
        for (what, ends, median) in [
            (
                "won value",
                spread.min_max_won_value,
                spread.median_won_value,
            ),
            (
                "cycle won",
                spread.min_max_cycle_days_won,
                spread.median_cycle_days_won,
            ),
        ] {
            if let (Some([least, greatest]), Some(median)) = (ends, median) {
                let (least, greatest) = (least.0, greatest.0);
                writeln!(out, "{what}: from {least} to {greatest}, median {median}")?;
            }
        }
        let part = shown(self.avg_won_value_over_list_price.as_deref());
        writeln!(out, "won value over list price: {part} on average")
    }

    fn print_open_pipeline(&self, out: &mut impl Write) -> io::Result<()> {
        let open = &self.analytics.open_pipeline;
        writeln!(
            out,
            "\nopen at the end of {}: {} prospecting, {} engaging at list prices of {} USD,\n\
             {} days old together, {} of them without activity for {ROTTING_AFTER_DAYS} days",
            open.as_of,
            open.prospecting,
            open.engaging,
            open.engaging_list_value_sum,
            open.engaging_age_days_sum,
            open.engaging_open_90d_or_more,
        )
    }

    fn print_forecasts(&self, out: &mut impl Write) -> io::Result<()> {
        let analytics = &self.analytics;
        writeln!(
            out,
            "\n{:<28}{:>14}{:>14}{:>14}{:>16}",
            "forecast", "closed", "best case", "pipeline", "expected"
        )?;
        print_forecast(out, "all", &analytics.forecast)?;
        for part in [
            &analytics.forecast_by_quarter,
            &analytics.forecast_by_month,
            &analytics.forecast_by_team,
        ] {
            for (name, forecast) in part {
                print_forecast(out, name, forecast)?;
            }
        }
        Ok(())
    }
}

fn print_forecast(out: &mut impl Write, name: &str, forecast: &ForecastFigures) -> io::Result<()> {
    writeln!(
        out,
        "{name:<28}{:>14}{:>14}{:>14}{:>16}",
        forecast.closed.0, forecast.best_case.0, forecast.pipeline.0, forecast.expected.0,
    )
}

fn print_closed(out: &mut impl Write, periods: &BTreeMap<String, Closed>) -> io::Result<()> {
    writeln!(
        out,
        "\n{:<24}{:>8}{:>8}{:>14}",
        "closed in", "won", "lost", "won value"
    )?;
    for (period, closed) in periods {
        let (won, lost, value) = (closed.won, closed.lost, closed.won_value);
        writeln!(out, "{period:<24}{won:>8}{lost:>8}{value:>14}")?;
    }
    Ok(())
}

fn print_numbers(
    out: &mut impl Write,
    title: &str,
    numbers: &BTreeMap<String, u64>,
) -> io::Result<()> {
    writeln!(out, "\n{title:<24}{:>8}", "deals")?;
    for (name, number) in numbers {
        writeln!(out, "{name:<24}{number:>8}")?;
    }
    Ok(())
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
