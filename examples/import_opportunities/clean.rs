//! From rows of text to values that make sense: the only place that knows the source's dirt.
//!
//! | in the file                     | becomes                                                   |
//! |---------------------------------|-----------------------------------------------------------|
//! | product `GTXPro`                | the product `GTX Pro` of the catalogue                    |
//! | office `Philipines`             | the Philippines, `PH`                                     |
//! | office `United States`, `Korea` | `US`, `KR`: the ISO names are longer                      |
//! | sector `technolgy`              | left as it is: the source's own category, reports name it |
//! | blank account                   | a deal without an account                                 |
//! | blank dates, blank value        | fine where the stage has none yet, see [`Journey`]        |
//! | revenue `1100.04`               | 1,100,040,000 US dollars: the file counts millions        |
//! | close value 0 of a lost deal    | nothing was paid; the deal keeps its list price           |
//! | white space around a cell       | cut off                                                   |
//!
//! Whatever else does not fit is not guessed at: the row is rejected with everything that is wrong
//! with it.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use chrono::NaiveDate;
use crm_engine::value::{Country, EmailAddress, TextValue};
use rust_decimal::Decimal;

use super::read::{AccountRow, AgentRow, Files, Line, OpportunityRow, ProductRow, Rejected};

const PRODUCT_NAMES: [(&str, &str); 1] = [("GTXPro", "GTX Pro")];
const COUNTRY_CODES: [(&str, &str); 3] = [
    ("Philipines", "PH"),
    ("United States", "US"),
    ("Korea", "KR"),
];

#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) line: Line<ProductRow>,
    pub(crate) list_price: Decimal,
}

impl Product {
    pub(crate) fn name(&self) -> &str {
        &self.line.row.product
    }
}

#[derive(Debug)]
pub(crate) struct Company {
    pub(crate) line: Line<AccountRow>,
    pub(crate) founded_year: Option<i32>,
    pub(crate) annual_revenue: Option<Decimal>,
    pub(crate) employee_count: Option<i32>,
    pub(crate) country: Option<Country>,
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) line: Line<AgentRow>,
    pub(crate) email: EmailAddress,
    pub(crate) manager_email: EmailAddress,
}

#[derive(Debug)]
pub(crate) struct Opportunity {
    pub(crate) line: Line<OpportunityRow>,
    pub(crate) product: Arc<Product>,
    pub(crate) journey: Journey,
}

impl Opportunity {
    /// What the source calls it.
    pub(crate) fn id(&self) -> &str {
        &self.line.row.opportunity_id
    }
}

/// How far an opportunity came, with exactly the dates that this takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Journey {
    Prospecting,
    Engaging {
        since: NaiveDate,
    },
    Won {
        engaged: NaiveDate,
        closed: NaiveDate,
        value: Decimal,
    },
    Lost {
        engaged: NaiveDate,
        closed: NaiveDate,
    },
}

impl Journey {
    pub(crate) const fn engaged(&self) -> Option<NaiveDate> {
        match *self {
            Self::Prospecting => None,
            Self::Engaging { since: day }
            | Self::Won { engaged: day, .. }
            | Self::Lost { engaged: day, .. } => Some(day),
        }
    }

    pub(crate) const fn closed(&self) -> Option<NaiveDate> {
        match *self {
            Self::Won { closed, .. } | Self::Lost { closed, .. } => Some(closed),
            Self::Prospecting | Self::Engaging { .. } => None,
        }
    }
}

/// What can be imported, and what cannot.
#[derive(Debug, Default)]
pub(crate) struct Cleaned {
    pub(crate) companies: Vec<Company>,
    pub(crate) products: Vec<Arc<Product>>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) opportunities: Vec<Opportunity>,
    pub(crate) rejected: Vec<Rejected>,
}

impl Cleaned {
    pub(crate) fn from_files(files: Files) -> Self {
        let mut cleaned = Self {
            rejected: files.rejected,
            ..Self::default()
        };
        cleaned.take_products(files.products);
        cleaned.take_companies(files.accounts);
        cleaned.take_agents(files.agents);
        cleaned.take_opportunities(files.opportunities);
        cleaned
    }

    fn take_products(&mut self, lines: Vec<Line<ProductRow>>) {
        let mut seen = HashSet::new();
        for line in lines {
            let mut cells = Cells::default();
            cells.name("product", &line.row.product, &mut seen);
            let price = cells.amount("sales_price", &line.row.sales_price);
            let list_price = cells.required("sales_price", price);
            match (list_price, cells.fault()) {
                (Some(list_price), None) => {
                    self.products.push(Arc::new(Product { line, list_price }));
                }
                (_, fault) => self.rejected.push(line.reject(fault.unwrap_or_default())),
            }
        }
    }

    fn take_companies(&mut self, lines: Vec<Line<AccountRow>>) {
        let mut seen = HashSet::new();
        for line in lines {
            let (mut cells, row) = (Cells::default(), &line.row);
            cells.name("account", &row.account, &mut seen);
            let founded_year = cells.number("year_established", &row.year_established);
            let annual_revenue = cells.millions("revenue", &row.revenue);
            let employee_count = cells.number("employees", &row.employees);
            let country = cells.country("office_location", &row.office_location);
            match cells.fault() {
                None => self.companies.push(Company {
                    line,
                    founded_year,
                    annual_revenue,
                    employee_count,
                    country,
                }),
                Some(fault) => self.rejected.push(line.reject(fault)),
            }
        }
    }

    fn take_agents(&mut self, lines: Vec<Line<AgentRow>>) {
        let mut seen = HashSet::new();
        // Two people whose names give one address cannot both be users.
        let mut people = HashMap::new();
        for line in lines {
            let (mut cells, row) = (Cells::default(), &line.row);
            cells.name("sales_agent", &row.sales_agent, &mut seen);
            cells.filled("regional_office", &row.regional_office);
            let email = cells.email("sales_agent", &row.sales_agent, &mut people);
            let manager_email = cells.email("manager", &row.manager, &mut people);
            match (email, manager_email, cells.fault()) {
                (Some(email), Some(manager_email), None) => {
                    self.agents.push(Agent {
                        line,
                        email,
                        manager_email,
                    });
                }
                (_, _, fault) => self.rejected.push(line.reject(fault.unwrap_or_default())),
            }
        }
    }

    fn take_opportunities(&mut self, lines: Vec<Line<OpportunityRow>>) {
        let products: HashMap<String, Arc<Product>> = self
            .products
            .iter()
            .map(|product| (product.name().to_owned(), product.clone()))
            .collect();
        let companies: HashSet<String> = self
            .companies
            .iter()
            .map(|company| company.line.row.account.clone())
            .collect();
        let agents: HashSet<String> = self
            .agents
            .iter()
            .map(|agent| agent.line.row.sales_agent.clone())
            .collect();
        let mut seen = HashSet::new();
        for line in lines {
            let (mut cells, row) = (Cells::default(), &line.row);
            cells.name("opportunity_id", &row.opportunity_id, &mut seen);
            cells.known("sales_agent", agents.contains(&row.sales_agent));
            let product = products.get(corrected(&row.product)).cloned();
            cells.known("product", product.is_some());
            cells.known(
                "account",
                row.account.is_empty() || companies.contains(&row.account),
            );
            let journey = cells.journey(row);
            match (product, journey, cells.fault()) {
                (Some(product), Some(journey), None) => {
                    self.opportunities.push(Opportunity {
                        line,
                        product,
                        journey,
                    });
                }
                (_, _, fault) => self.rejected.push(line.reject(fault.unwrap_or_default())),
            }
        }
    }
}

/// A product's name as the catalogue writes it.
fn corrected(product: &str) -> &str {
    let correction = PRODUCT_NAMES
        .iter()
        .find(|(written, _)| *written == product);
    correction.map_or(product, |(_, meant)| meant)
}

/// `Mei-Mei Johns` gets `mei-mei.johns@example.com`; the domain is reserved and reaches nobody.
fn address_of(name: &str) -> Option<EmailAddress> {
    let words: Vec<String> = name
        .to_lowercase()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut local = words.join(".");
    local.retain(|letter| letter.is_alphanumeric() || matches!(letter, '.' | '-'));
    EmailAddress::parse(&format!("{local}@example.com")).ok()
}

/// Reads the cells of one row and remembers everything that is wrong with them.
#[derive(Debug, Default)]
struct Cells {
    faults: Vec<String>,
}

impl Cells {
    fn fault(self) -> Option<String> {
        (!self.faults.is_empty()).then(|| self.faults.join("; "))
    }

    fn complain(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    fn filled(&mut self, column: &str, cell: &str) {
        if cell.is_empty() {
            self.complain(format!("`{column}` is blank"));
        }
    }

    /// The row's own name, which no row before it may have.
    fn name(&mut self, column: &str, cell: &str, seen: &mut HashSet<String>) {
        self.filled(column, cell);
        if !cell.is_empty() && !seen.insert(cell.to_owned()) {
            self.complain(format!("duplicate `{column}`"));
        }
    }

    fn known(&mut self, column: &str, is_known: bool) {
        if !is_known {
            self.complain(format!("unknown `{column}`"));
        }
    }

    fn required<T>(&mut self, column: &str, value: Option<T>) -> Option<T> {
        let told = format!("`{column}` ");
        if value.is_none() && !self.faults.iter().any(|fault| fault.starts_with(&told)) {
            self.complain(format!("`{column}` is blank"));
        }
        value
    }

    /// A value, or nothing where the cell is blank.
    fn parse<T>(&mut self, column: &str, cell: &str, kind: &str) -> Option<T>
    where
        T: FromStr,
    {
        let value = cell.parse().ok();
        if value.is_none() && !cell.is_empty() {
            self.complain(format!("`{column}` is not {kind}"));
        }
        value
    }

    fn number(&mut self, column: &str, cell: &str) -> Option<i32> {
        self.parse(column, cell, "a whole number")
    }

    fn date(&mut self, column: &str, cell: &str) -> Option<NaiveDate> {
        self.parse(column, cell, "a date such as 2017-03-31")
    }

    fn amount(&mut self, column: &str, cell: &str) -> Option<Decimal> {
        let amount: Decimal = self.parse(column, cell, "an amount")?;
        if amount < Decimal::ZERO {
            self.complain(format!("`{column}` is negative"));
        }
        Some(amount)
    }

    fn millions(&mut self, column: &str, cell: &str) -> Option<Decimal> {
        let amount = self
            .amount(column, cell)?
            .checked_mul(Decimal::from(1_000_000));
        if amount.is_none() {
            self.complain(format!("`{column}` is too large"));
        }
        amount
    }

    fn country(&mut self, column: &str, cell: &str) -> Option<Country> {
        if cell.is_empty() {
            return None;
        }
        let code = COUNTRY_CODES.iter().find(|(written, _)| *written == cell);
        let country = match code {
            Some((_, code)) => Country::parse(code).ok(),
            None => Country::all().find(|country| country.name() == cell),
        };
        self.known(column, country.is_some());
        country
    }

    /// The address of a person; `people` says who has which.
    fn email(
        &mut self,
        column: &str,
        name: &str,
        people: &mut HashMap<String, String>,
    ) -> Option<EmailAddress> {
        let Some(email) = address_of(name) else {
            self.complain(format!("`{column}` gives no e-mail address"));
            return None;
        };
        let owner = people
            .entry(email.as_str().to_owned())
            .or_insert_with(|| name.to_owned());
        if owner != name {
            self.complain(format!(
                "`{column}` gives the e-mail address of somebody else"
            ));
        }
        Some(email)
    }

    /// How far the opportunity came. Its stage says which dates it has, and which it cannot have.
    fn journey(&mut self, row: &OpportunityRow) -> Option<Journey> {
        let engaged = self.date("engage_date", &row.engage_date);
        let closed = self.date("close_date", &row.close_date);
        let value = self.amount("close_value", &row.close_value);
        if engaged
            .zip(closed)
            .is_some_and(|(engaged, closed)| closed < engaged)
        {
            self.complain("`close_date` is before `engage_date`");
        }
        match row.deal_stage.as_str() {
            "Prospecting" => {
                self.unexpected("engage_date", &row.engage_date, "prospecting");
                self.still_open(row);
                Some(Journey::Prospecting)
            }
            "Engaging" => {
                self.still_open(row);
                Some(Journey::Engaging {
                    since: self.required("engage_date", engaged)?,
                })
            }
            "Won" => {
                let engaged = self.required("engage_date", engaged);
                let closed = self.required("close_date", closed);
                let value = self.required("close_value", value);
                Some(Journey::Won {
                    engaged: engaged?,
                    closed: closed?,
                    value: value?,
                })
            }
            "Lost" => {
                let engaged = self.required("engage_date", engaged);
                let closed = self.required("close_date", closed);
                if value.is_some_and(|value| value > Decimal::ZERO) {
                    self.complain("`close_value` of a lost deal is not 0");
                }
                Some(Journey::Lost {
                    engaged: engaged?,
                    closed: closed?,
                })
            }
            _ => {
                self.known("deal_stage", false);
                None
            }
        }
    }

    fn still_open(&mut self, row: &OpportunityRow) {
        self.unexpected("close_date", &row.close_date, "open");
        self.unexpected("close_value", &row.close_value, "open");
    }

    fn unexpected(&mut self, column: &str, cell: &str, state: &str) {
        if !cell.is_empty() {
            self.complain(format!(
                "`{column}` is filled, but the deal is still {state}"
            ));
        }
    }
}
