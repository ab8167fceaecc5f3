//! The example that imports a sales history: on the whole data set, whose figures were computed
//! independently, and on small files with every kind of dirt and every kind of bad row; once, twice,
//! and stopped in the middle.
//!
//! The data set is looked for in `$CRM_DATA_DIR/crm-sales-opportunities`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends where what it rests on is missing"
)]

use crate::common::backend;
use crate::common::storage::{Call, Watch, Watched};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use crm_engine::storage::{Scope, StorageError};
use indicatif::ProgressBar;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

#[allow(
    dead_code,
    reason = "its arguments and its printing are not tested here"
)]
#[path = "../../examples/import_opportunities/main.rs"]
mod example;

const ACCOUNTS: &str = "\
account,sector,year_established,revenue,employees,office_location,subsidiary_of
Globex,software,1990,12.5,100,Philipines,
Initech,technolgy,2001,0.4,20,Korea,Globex
Hooli,retail,,,,,
";
const PRODUCTS: &str = "\
product,series,sales_price
GTX Pro,GTX,4821
MG Special,MG,55
";
const AGENTS: &str = "\
sales_agent,manager,regional_office
Ann Lee,Max Moe,East
Mei-Mei Johns,Max Moe,West
";
const OPPORTUNITIES: &str =
    "opportunity_id,sales_agent,product,account,deal_stage,engage_date,close_date,close_value\n";

/// A folder with the four files.
struct Folder {
    temporary: tempfile::TempDir,
}

impl Folder {
    fn with_opportunities(rows: &str) -> Self {
        let folder = Self {
            temporary: tempfile::tempdir().unwrap(),
        };
        folder.write("accounts.csv", ACCOUNTS);
        folder.write("products.csv", PRODUCTS);
        folder.write("sales_teams.csv", AGENTS);
        folder.write("sales_pipeline.csv", format!("{OPPORTUNITIES}{rows}"));
        folder
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.temporary.path().join(file), text).unwrap();
    }

    async fn import(&self) -> Json {
        import(self.temporary.path()).await
    }

    async fn failure(&self) -> String {
        try_import(&target(), self.temporary.path())
            .await
            .unwrap_err()
    }
}

fn target() -> example::Target {
    example::Target::over(backend::storage(&[]))
}

async fn import(folder: &Path) -> Json {
    import_into(&target(), folder).await
}

async fn import_into(target: &example::Target, folder: &Path) -> Json {
    try_import(target, folder).await.unwrap()
}

async fn try_import(target: &example::Target, folder: &Path) -> Result<Json, String> {
    match example::run(target, folder, &ProgressBar::hidden()).await {
        Ok(report) => Ok(serde_json::to_value(report).unwrap()),
        Err(failure) => Err(failure.to_string()),
    }
}

/// A report without what it says of the import: what it says of the sales.
fn figures(report: &Json) -> Json {
    let mut report = report.clone();
    let members = report.as_object_mut().unwrap();
    members.remove("created").unwrap();
    members.remove("already_there").unwrap();
    report
}

/// Lets one commit through and refuses all after it, until it is told to go on: the process ends
/// between two commits.
#[derive(Debug, Default)]
struct Stopping {
    is_spent: AtomicBool,
}

#[async_trait]
impl Watch for Stopping {
    async fn begins(&self, _: &Scope, call: Call<'_>) -> Result<(), StorageError> {
        match call.is_commit() && self.is_spent.swap(true, Ordering::SeqCst) {
            true => Err(StorageError::Unavailable("stopped".into())),
            false => Ok(()),
        }
    }
}

/// The reasons in a report, by the row's key or, where that could not be read, its line.
fn reasons(report: &Json) -> BTreeMap<String, String> {
    let reason = |row: &Json| {
        let key = match row["key"].as_str().unwrap() {
            "" => row["line"].to_string(),
            key => key.to_owned(),
        };
        (key, row["reason"].as_str().unwrap().to_owned())
    };
    report["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(reason)
        .collect()
}

fn data_set() -> Option<PathBuf> {
    let Some(data) = std::env::var_os("CRM_DATA_DIR") else {
        let note = "CRM_DATA_DIR is not set: the import of the whole data set was not tested";
        // Not `eprintln!`, which the test harness would keep to itself.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "{note}").unwrap();
        return None;
    };
    Some(Path::new(&data).join("crm-sales-opportunities"))
}

/// Which part of a whole went on, in percent to two decimals.
fn percent(part: &Json, whole: &Json) -> String {
    let number = |json: &Json| Decimal::from(json.as_u64().unwrap());
    let percent = number(part) / number(whole) * Decimal::ONE_HUNDRED;
    format!("{}%", percent.round_dp(2).normalize())
}

/// Everything in the reference but what it says of itself, and of the files rather than the sales.
#[tokio::test]
async fn every_figure_equals_the_reference() {
    let Some(folder) = data_set() else { return };
    let reference = fs::read(folder.join("reference_aggregates.json")).unwrap();
    let reference: Json = serde_json::from_slice(&reference).unwrap();
    let report = import(&folder).await;

    assert_eq!(report["rejected"], json!([]));
    for (part, wanted) in reference.as_object().unwrap() {
        match part.as_str() {
            "source" | "rules" | "import_facts" => {}
            "open_pipeline" => {
                let open = report[part].as_object().unwrap().clone();
                let day = open["as_of"].as_str().unwrap().to_owned();
                let dated = |name: String| match name.as_str() {
                    "engaging_age_days_sum" | "engaging_open_90d_or_more" => {
                        format!("{name}_as_of_{day}")
                    }
                    _ => name,
                };
                let open = open.into_iter().map(|(name, figure)| (dated(name), figure));
                let mut open: serde_json::Map<String, Json> = open.collect();
                open.remove("as_of");
                assert_eq!(Json::from(open), *wanted, "{part}");
            }
            "by_product" => {
                // By the names as the source writes them.
                let mut products = report["by_product_fixed"].as_object().unwrap().clone();
                let renamed = products.remove("GTX Pro").unwrap();
                products.insert("GTXPro".to_owned(), renamed);
                assert_eq!(Json::from(products), *wanted, "{part}");
            }
            _ if wanted.is_f64() => assert_eq!(report[part].as_f64(), wanted.as_f64(), "{part}"),
            _ => match (report[part].as_object(), wanted.as_object()) {
                (Some(ours), Some(wanted)) => {
                    assert!(ours.keys().eq(wanted.keys()), "{part}");
                    for (name, figures) in wanted {
                        assert_eq!(ours[name], *figures, "{part}: {name}");
                    }
                }
                _ => assert_eq!(report[part], *wanted, "{part}"),
            },
        }
    }

    let total = &reference["total"];
    for stage in ["prospecting", "engaging", "won", "lost"] {
        assert_eq!(report["stages"][stage], total[stage], "{stage}");
    }
    assert_eq!(report["win_rate"], total["win_rate_won_over_closed"]);
    assert_eq!(report["won_value"], total["won_value_sum"]);
    funnel_and_cycle_equal(&report, &reference);
    forecasts_equal(&report, &reference);

    // what the accounts keep of their deals. Deals without an account are kept by none.
    let kept = report["account_statistics"].as_object().unwrap();
    let mut accounts = reference["by_account"].as_object().unwrap().clone();
    accounts.remove("").unwrap();
    assert!(kept.keys().eq(accounts.keys()));
    for (name, figures) in &accounts {
        for figure in ["deals", "won", "won_value_sum"] {
            assert_eq!(kept[name][figure], figures[figure], "{name}: {figure}");
        }
    }
}

/// The analytics of the pipeline.
fn funnel_and_cycle_equal(report: &Json, reference: &Json) {
    let total = &reference["total"];
    let count = |name: &str| total[name].as_u64().unwrap();
    let engaged = json!(count("deals") - count("prospecting"));
    let funnel = &report["funnel"];
    assert_eq!(
        funnel[0],
        json!({
            "stage": "Prospecting",
            "entered": total["deals"],
            "advanced": engaged,
            "won": 0,
            "lost": 0,
            "still": total["prospecting"],
            "conversion": percent(&engaged, &total["deals"]),
        })
    );
    assert_eq!(
        funnel[1],
        json!({
            "stage": "Engaging",
            "entered": engaged,
            "advanced": 0,
            "won": total["won"],
            "lost": total["lost"],
            "still": total["engaging"],
            "conversion": percent(&total["won"], &engaged),
        })
    );
    assert_eq!(funnel[2]["entered"], total["won"]);
    assert_eq!(funnel[2]["conversion"], Json::Null);
    assert_eq!(funnel[3]["entered"], total["lost"]);

    let cycle = &report["cycle"];
    assert_eq!(cycle["won_days_avg"], total["cycle_days_avg_won"]);
    assert_eq!(cycle["lost_days_avg"], total["cycle_days_avg_lost"]);
    let median: f64 = cycle["won_days_median"].as_str().unwrap().parse().unwrap();
    assert_eq!(Some(median), reference["median_cycle_days_won"].as_f64());
}

/// The forecasts: what is won by period, region and manager, and what is open.
fn forecasts_equal(report: &Json, reference: &Json) {
    let (total, open) = (&reference["total"], &reference["open_pipeline"]);
    let forecast = &report["forecast"];
    assert_eq!(forecast["closed_deals"], total["won"]);
    assert_eq!(forecast["closed"], total["won_value_sum"]);
    assert_eq!(forecast["best_case_deals"], open["engaging"]);
    assert_eq!(forecast["best_case"], open["engaging_list_value_sum"]);
    assert_eq!(forecast["pipeline_deals"], open["prospecting"]);
    // The stages reckon with a half and a tenth.
    let amount = |name: &str| match &forecast[name] {
        Json::String(text) => text.parse::<Decimal>().unwrap(),
        whole => Decimal::from(whole.as_u64().unwrap()),
    };
    let open = amount("best_case") / Decimal::TWO + amount("pipeline") / Decimal::TEN;
    assert_eq!(amount("expected"), amount("closed") + open);

    let mut parts = Vec::new();
    for (forecasts, periods, prefix) in [
        ("forecast_by_quarter", "by_close_quarter", "FY"),
        ("forecast_by_month", "by_close_month", ""),
    ] {
        for (period, closed) in reference[periods].as_object().unwrap() {
            let forecast = &report[forecasts][format!("{prefix}{period}")];
            parts.push((
                forecast.clone(),
                closed["won"].clone(),
                closed["won_value"].clone(),
            ));
        }
    }
    let teams = report["forecast_by_team"].as_object().unwrap();
    for parts_of in ["by_region", "by_manager"] {
        for (name, figures) in reference[parts_of].as_object().unwrap() {
            // A manager's team is named after the manager and the region.
            let of_manager = format!("{name}, ");
            let team = teams
                .iter()
                .find(|(team, _)| *team == name || team.starts_with(&of_manager));
            let (_, forecast) = team.unwrap();
            assert_eq!(forecast["best_case_deals"], figures["engaging"], "{name}");
            assert_eq!(forecast["pipeline_deals"], figures["prospecting"], "{name}");
            let (won, value) = (figures["won"].clone(), figures["won_value_sum"].clone());
            parts.push((forecast.clone(), won, value));
        }
    }
    assert_eq!(parts.len(), 4 + 10 + 3 + 6);
    for (forecast, won, value) in parts {
        assert_eq!(forecast["closed_deals"], won);
        assert_eq!(forecast["closed"], value);
    }
}

/// Deals in all stages, one without its account, and staff and accounts with faults.
fn mixed_folder() -> Folder {
    let long = "x".repeat(300);
    let folder = Folder::with_opportunities(&format!(
        "O1,Ann Lee,GTXPro,Globex,Won,2017-01-02,2017-04-05,4800\n\
         O2,Mei-Mei Johns,MG Special,Initech,Lost,2017-01-03,2017-01-13,0\n\
         O3,Ann Lee,MG Special,,Engaging,2017-01-03,,\n\
         O4,Ann Lee,MG Special,Rene\u{301},Prospecting,,,\n\
         O5,Ann Lee,GTX Pro,Hooli,Won,2017-03-31,2017-03-31,5000\n\
         O6,Ann Lee,MG Special,{long},Prospecting,,,\n\
         O7,Ann Lee,MG Special,,Won,2017-01-01,2017-01-13,79228162514264337593543950335\n"
    ));
    folder.write(
        "accounts.csv",
        format!(
            "{ACCOUNTS}{long},retail,,,,,\nSnake,retail,,,,,Snake\nRene\u{301},retail,,,,,Globex\n"
        ),
    );
    folder.write("sales_teams.csv", format!("{AGENTS}Self,Self,East\n"));
    folder
}

#[tokio::test]
async fn importing_twice_doubles_nothing() {
    let (folder, target) = (mixed_folder(), target());
    let path = folder.temporary.path();
    let first = import_into(&target, path).await;
    assert_eq!(
        first["created"],
        json!({
            "account": 5, "deal": 6, "deal_line": 6, "deal_stage_change": 14, "pipeline": 1,
            "pipeline_stage": 4, "product": 2, "team": 5, "team_member": 5, "tenant": 1, "user": 4,
        })
    );
    assert_eq!(first["already_there"], json!({}));

    let second = import_into(&target, path).await;
    assert_eq!(second["created"], json!({}));
    assert_eq!(second["already_there"], first["created"]);
    assert_eq!(figures(&second), figures(&first));
}

#[tokio::test]
async fn an_import_that_stops_at_every_commit_is_completed() {
    let folder = mixed_folder();
    let whole = folder.import().await;

    let stopping = Watched::new(Stopping::default());
    let target = example::Target::over(stopping.clone());
    let mut stops = 0;
    let report = loop {
        match try_import(&target, folder.temporary.path()).await {
            Ok(report) => break report,
            Err(failure) => assert!(failure.contains("not available"), "{failure}"),
        }
        stops += 1;
        assert!(stops < 100, "no run gets further than the one before");
        stopping.watch.is_spent.store(false, Ordering::SeqCst);
    };
    assert!(
        stops > 10,
        "tenant, pipeline, staff, accounts, and each day"
    );
    assert_eq!(figures(&report), figures(&whole));
}

#[tokio::test]
async fn newer_files_bring_the_rest() {
    let folder = Folder::with_opportunities(
        "O1,Ann Lee,MG Special,Globex,Engaging,2017-01-02,,\n\
         O2,Ann Lee,MG Special,Globex,Prospecting,,,\n",
    );
    let target = target();
    import_into(&target, folder.temporary.path()).await;
    folder.write(
        "sales_pipeline.csv",
        format!(
            "{OPPORTUNITIES}\
             O1,Ann Lee,MG Special,Globex,Won,2017-01-02,2017-02-02,50\n\
             O2,Ann Lee,MG Special,Globex,Prospecting,,,\n\
             O3,Mei-Mei Johns,MG Special,Initech,Lost,2017-02-01,2017-02-03,0\n"
        ),
    );
    let report = import_into(&target, folder.temporary.path()).await;
    assert_eq!(
        report["created"],
        json!({"deal": 1, "deal_line": 1, "deal_stage_change": 4})
    );
    assert_eq!(report["already_there"]["deal"], 2);
    assert_eq!(
        report["stages"],
        json!({"prospecting": 1, "engaging": 0, "won": 1, "lost": 1})
    );
    assert_eq!(report["won_value"], 50);
    assert_eq!(report["total"]["cycle_days_sum_won"], 31);
}

#[tokio::test]
async fn dirt_is_cleaned() {
    let folder = Folder::with_opportunities(
        "O1,Ann Lee,GTXPro,Globex,Won,2017-01-02,2017-04-05,4800\n\
         O2,Mei-Mei Johns,MG Special,Initech,Lost,2017-01-03,2017-01-13,0\n\
         O3,Ann Lee,MG Special,,Engaging,2017-02-01,,\n\
         O4,Ann Lee,MG Special,,Prospecting,,,\n \
         O5 , Ann Lee , GTX Pro , Hooli , Won , 2017-03-31 , 2017-03-31 , 5000\r\n",
    );
    let report = folder.import().await;
    assert_eq!(report["rejected"], json!([]));
    assert_eq!(
        report["stages"],
        json!({"prospecting": 1, "engaging": 1, "won": 2, "lost": 1})
    );
    assert_eq!(
        report["entered"],
        json!({"prospecting": 5, "engaging": 4, "won": 2, "lost": 1})
    );
    assert_eq!(report["win_rate"], "0.666667");
    assert_eq!(report["won_value"], 9800);
    assert_eq!(
        report["by_close_quarter"],
        json!({
            "2017-Q1": {"won": 1, "lost": 1, "won_value": 5000},
            "2017-Q2": {"won": 1, "lost": 0, "won_value": 4800},
        })
    );
    assert_eq!(report["engaged_by_quarter"], json!({"2017-Q1": 4}));
    let products = report["by_product_fixed"].as_object().unwrap();
    assert_eq!(
        products["GTX Pro"]["won"], 2,
        "`GTXPro` and `GTX Pro` are one product"
    );
    assert_eq!(
        products["GTX Pro"]["cycle_days_sum_won"], 93,
        "2 January to 5 April, and 0 days"
    );
    let nobody = &report["by_account"][""];
    assert_eq!(
        (&nobody["deals"], &nobody["win_rate_won_over_closed"]),
        (&json!(2), &Json::Null)
    );
    assert_eq!(
        report["by_region"]["West"]["cycle_days_avg_lost"],
        "10.0000"
    );
}

#[tokio::test]
async fn a_won_value_with_cents_loses_none() {
    let folder = Folder::with_opportunities(
        "O1,Ann Lee,MG Special,,Won,2017-01-02,2017-04-05,54.75\n\
         O2,Ann Lee,MG Special,,Won,2017-01-02,2017-04-05,0.5\n",
    );
    let report = folder.import().await;
    assert_eq!(report["won_value"], "55.25");
    // 27.625 exactly: four decimals hold it.
    assert_eq!(report["by_agent"]["Ann Lee"]["won_value_avg"], "27.6250");
}

#[tokio::test]
async fn bad_opportunities_are_rejected_with_every_reason() {
    let cases = [
        (
            "unknown-agent,Bob,MG Special,,Prospecting,,,",
            "unknown `sales_agent`",
        ),
        (
            "unknown-product,Ann Lee,MG,,Prospecting,,,",
            "unknown `product`",
        ),
        (
            "unknown-account,Ann Lee,MG Special,Acme,Prospecting,,,",
            "unknown `account`",
        ),
        (
            "unknown-stage,Ann Lee,MG Special,,Paused,,,",
            "unknown `deal_stage`",
        ),
        (
            "bad-date,Ann Lee,MG Special,,Engaging,2017-02-30,,",
            "`engage_date` is not a date such as 2017-03-31",
        ),
        (
            "backwards,Ann Lee,MG Special,,Won,2017-03-02,2017-03-01,5",
            "`close_date` is before `engage_date`",
        ),
        (
            "negative,Ann Lee,MG Special,,Won,2017-03-01,2017-03-02,-5",
            "`close_value` is negative",
        ),
        (
            "no-amount,Ann Lee,MG Special,,Won,2017-03-01,2017-03-02,five",
            "`close_value` is not an amount",
        ),
        (
            "lost-value,Ann Lee,MG Special,,Lost,2017-03-01,2017-03-02,5",
            "`close_value` of a lost deal is not 0",
        ),
        (
            "not-closed,Ann Lee,MG Special,,Won,2017-03-01,,",
            "`close_date` is blank; `close_value` is blank",
        ),
        (
            "not-engaged,Ann Lee,MG Special,,Engaging,,,",
            "`engage_date` is blank",
        ),
        (
            "too-early,Ann Lee,MG Special,,Prospecting,2017-03-01,,",
            "`engage_date` is filled, but the deal is still prospecting",
        ),
        (
            "still-open,Ann Lee,MG Special,,Engaging,2017-03-01,2017-03-02,7",
            "`close_date` is filled, but the deal is still open; \
             `close_value` is filled, but the deal is still open",
        ),
        (
            "everything,Bob,MG,Acme,Won,soon,later,-1",
            "unknown `sales_agent`; unknown `product`; unknown `account`; \
             `engage_date` is not a date such as 2017-03-31; \
             `close_date` is not a date such as 2017-03-31; `close_value` is negative",
        ),
        (
            "twice,Ann Lee,MG Special,,Prospecting,,,",
            "duplicate `opportunity_id`",
        ),
    ];
    let mut rows = String::from("twice,Ann Lee,MG Special,,Prospecting,,,\n");
    for (row, _) in &cases {
        rows.push_str(row);
        rows.push('\n');
    }
    let report = Folder::with_opportunities(&rows).import().await;

    let reasons = reasons(&report);
    assert_eq!(reasons.len(), cases.len());
    for (row, reason) in &cases {
        let key = row.split(',').next().unwrap();
        assert_eq!(reasons[key], *reason, "{key}");
    }
    let first = &report["rejected"][0];
    assert_eq!(
        (&first["file"], &first["line"]),
        (&json!("sales_pipeline.csv"), &json!(3))
    );
    assert_eq!(
        report["stages"]["prospecting"], 1,
        "only the first `twice` came in"
    );
}

#[tokio::test]
async fn broken_rows_are_rejected_by_their_line() {
    let folder = Folder::with_opportunities("");
    let mut rows = OPPORTUNITIES.as_bytes().to_vec();
    rows.extend(b"O1,Ann Lee,MG Special\n");
    rows.extend(b"O2,Ann Lee,MG Special,\xff,Prospecting,,,\n");
    rows.extend(b",Ann Lee,MG Special,,Prospecting,,,\n");
    rows.extend(b"O4,Ann Lee,MG Special,,Prospecting,,,\n");
    folder.write("sales_pipeline.csv", rows);
    let report = folder.import().await;
    let reasons = reasons(&report);
    assert_eq!(reasons["2"], "the row has 3 columns instead of 8");
    assert_eq!(reasons["3"], "the row is not UTF-8 text");
    assert_eq!(reasons["4"], "`opportunity_id` is blank");
    assert_eq!(report["total"]["deals"], 1);
}

#[tokio::test]
async fn bad_accounts_products_and_agents_are_rejected() {
    let folder = Folder::with_opportunities(
        "O1,Ann Lee,MG Special,Orphan,Prospecting,,,\n\
         O2,Ann Lee,MG Special,Atlantis,Prospecting,,,\n",
    );
    folder.write(
        "accounts.csv",
        format!(
            "{ACCOUNTS}\
             Globex,retail,,,,,\n\
             Atlantis,retail,,,,Atlantis,\n\
             Umbrella,medical,long ago,-1,few,Japan,\n\
             Giant,retail,,79228162514264337593543950335,,,\n\
             Ancient,retail,3,,,,\n\
             Orphan,retail,,,,,Nobody\n\
             Snake,retail,,,,,Snake\n"
        ),
    );
    folder.write("products.csv", format!("{PRODUCTS}Gift,MG,\nDebt,MG,-1\n"));
    folder.write(
        "sales_teams.csv",
        format!("{AGENTS}Ann Lee,Max Moe,East\nann lee,Max Moe,East\nSolo,Solo,\nSelf,Self,East\n"),
    );
    let report = folder.import().await;
    let reasons = reasons(&report);
    let reason = |key: &str| reasons[key].as_str();
    assert_eq!(reason("Globex"), "duplicate `account`");
    assert_eq!(reason("Atlantis"), "unknown `office_location`");
    assert_eq!(
        reason("Umbrella"),
        "`year_established` is not a whole number; `revenue` is negative; \
         `employees` is not a whole number"
    );
    assert_eq!(reason("Giant"), "`revenue` is too large");
    assert!(reason("Ancient").starts_with("not taken over: 1 field is not valid: `founded_year`"));
    assert_eq!(
        reason("Orphan"),
        "the account has no parent: unknown `subsidiary_of`"
    );
    assert!(reason("Snake").starts_with("the account has no parent: "));
    assert!(reason("Snake").ends_with("(R-016)"));
    assert_eq!(reason("Gift"), "`sales_price` is blank");
    assert_eq!(reason("Debt"), "`sales_price` is negative");
    assert_eq!(reason("Ann Lee"), "duplicate `sales_agent`");
    assert_eq!(
        reason("ann lee"),
        "`sales_agent` gives the e-mail address of somebody else"
    );
    assert_eq!(reason("Solo"), "`regional_office` is blank");
    assert!(reason("Self").starts_with("the agent has no manager: "));
    assert_eq!(reason("O2"), "unknown `account`");
    assert_eq!(report["by_account"]["Orphan"]["deals"], 1);
}

#[tokio::test]
async fn what_the_engine_refuses_is_rejected_and_the_rest_goes_on() {
    let long = "x".repeat(300);
    let folder = Folder::with_opportunities(&format!(
        "O1,Ann Lee,MG Special,{long},Prospecting,,,\n\
         O2,Ann Lee,MG Special,,Won,2017-01-01,2017-01-02,79228162514264337593543950335\n\
         O3,Ann Lee,MG Special,,Won,2017-01-01,2017-01-02,5\n"
    ));
    folder.write("accounts.csv", format!("{ACCOUNTS}{long},retail,,,,,\n"));
    let report = folder.import().await;
    let reasons = reasons(&report);
    assert!(
        reasons[&long].contains("`name`"),
        "the account's name is too long"
    );
    assert_eq!(reasons["O1"], "its account was not taken over");
    let refused = &reasons["O2"];
    assert!(
        refused.starts_with("the deal stays in Engaging: ") && refused.contains("`unit_price`"),
        "{refused}"
    );
    assert_eq!(
        report["stages"],
        json!({"prospecting": 0, "engaging": 1, "won": 1, "lost": 0})
    );
    assert_eq!(
        report["open_pipeline"]["engaging_list_value_sum"], 55,
        "it keeps the list price"
    );
    assert_eq!(report["won_value"], 5);
}

#[tokio::test]
async fn empty_files_make_an_empty_report() {
    let report = Folder::with_opportunities("").import().await;
    assert_eq!(report["won_value"], 0);
    assert_eq!(report["win_rate"], Json::Null);
    assert_eq!(report["by_agent"], json!({}));
}

#[tokio::test]
async fn a_missing_file_or_column_ends_the_import() {
    let folder = Folder::with_opportunities("");
    folder.write("products.csv", "product,price\n");
    assert!(
        folder
            .failure()
            .await
            .ends_with("products.csv: the column `series` is missing")
    );
    fs::remove_file(folder.temporary.path().join("products.csv")).unwrap();
    assert!(folder.failure().await.contains("products.csv: "));
}
