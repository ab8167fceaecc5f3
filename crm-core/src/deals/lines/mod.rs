//! The lines of deals: which products, how many, for how much (C-013).
//!
//! - A line copies name, code and price of its [`Product`] when it is made, unless it is given
//!   others; it may also stand without a product. What was copied stays when the product changes.
//!   A line that is given another product by a patch keeps what it has, unless the patch empties name,
//!   code and price; [`update_line`](crate::engine::Records::update_line) sees to that by itself.
//! - The price of a line is in the currency of its deal. A deal with lines keeps its currency, since
//!   their prices would mean something else: take the lines off first.
//! - One kind of discount is stated for a line, or both, in the stated order: first the percentage
//!   of quantity × price, then the amount (R-041). See [`line_total`].
//! - The amount of a deal follows its lines in the commit that changes them. An amount that is set
//!   to anything more than 0.01 off is refused with what it would have to be, in the parameter
//!   `expected` of the fault, whichever way it comes (R-040). Where the lines come to nothing, or
//!   there are none, the amount is free; the last line taken off leaves it as it was.
//! - Each change of a line is also a new version of the deal, so two who change lines of one deal
//!   at the same time are one after the other, and the amount has both.
//! - Lines of a closed deal can be put right like its amount, which follows; the exchange rate that
//!   was locked when it closed stays.

mod hook;
mod rules;
mod totals;

use std::sync::Arc;

use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

pub(crate) use hook::LineHook;
pub(crate) use rules::{AmountRule, LineRules};
pub use totals::{Discount, TotalFault, line_total, sum_of_lines};

use crate::Id;
use crate::deals::Deal;
use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::{Faults, FieldError, Result, codes};
use crate::products::Product;
use crate::record::Record;
use crate::schema::{Entity, Picklist};
use crate::value::{Currency, Percent};

/// One line of a deal.
///
/// ```
/// # use crm_core::{Id, deals::{Deal, DealLine, DiscountKind}, products::Product, value::Percent};
/// # fn example(deal: Id<Deal>, licence: Id<Product>) -> Result<(), crm_core::value::ValueError> {
/// // Three of a product, at its price, a tenth off.
/// let line = DealLine {
///     quantity: 3.into(),
///     discount_kind: DiscountKind::Percent,
///     discount_percent: Some(Percent::from_whole(10)?),
///     ..DealLine::of_product(deal, licence)
/// };
/// // Something that is in no catalogue.
/// let travel = DealLine {
///     product_name: Some("Travel".into()),
///     unit_price: Some(450.into()),
///     ..DealLine::new(deal)
/// };
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "deal_line",
    table = "deal_products",
    index(deal_id, position),
    check = check_line
)]
pub struct DealLine {
    /// The deal.
    #[field(required, references = "deal", on_delete = "cascade")]
    pub deal_id: Id<Deal>,
    /// Its place among the lines of the deal, from 1; 0 puts a line behind the others when it is
    /// committed. Of two lines at one place the older one comes first.
    #[field(min = 0)]
    pub position: u32,
    /// The product, if it is in the catalogue.
    #[field(references = "product", on_delete = "set_null")]
    pub product_id: Option<Id<Product>>,
    /// What is sold; the name of the product, unless another one is given.
    #[field(required, max_len = 255)]
    pub product_name: Option<String>,
    /// The code of the product at the time.
    #[field(max_len = 100)]
    pub product_code: Option<String>,
    /// Notes.
    #[field(multiline)]
    pub description: Option<String>,
    /// How many; greater than zero, at most four decimals.
    #[field(default = Decimal::ONE, precision = 15, scale = 4, min = 0)]
    pub quantity: Decimal,
    /// What one unit costs; the price of the product in the currency of the deal, unless another
    /// one is given. At most four decimals.
    #[field(required, currency = "currency", min = 0)]
    pub unit_price: Option<Decimal>,
    /// The currency of the deal.
    #[field(read_only)]
    pub currency: Currency,
    /// What is taken off.
    pub discount_kind: DiscountKind,
    /// The percentage of quantity × price that is taken off.
    pub discount_percent: Option<Percent>,
    /// The amount that is taken off.
    #[field(currency = "currency", min = 0)]
    pub discount_amount: Option<Decimal>,
    /// What the line comes to (R-041).
    #[field(read_only, currency = "currency", min = 0)]
    pub line_total: Decimal,
    /// Values of the tenant's own fields.
    #[field(default = json!({}))]
    pub custom_fields: Json,
}

/// What kind of discount a line has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum DiscountKind {
    /// None.
    #[default]
    None,
    /// The percentage.
    Percent,
    /// The amount.
    Amount,
    /// First the percentage of quantity × price, then the amount (R-041).
    PercentThenAmount,
}

impl DiscountKind {
    const fn has_percent(self) -> bool {
        matches!(self, Self::Percent | Self::PercentThenAmount)
    }

    const fn has_amount(self) -> bool {
        matches!(self, Self::Amount | Self::PercentThenAmount)
    }
}

impl DealLine {
    /// One unit of a product, at its price.
    #[must_use]
    pub fn of_product(deal: Id<Deal>, product: Id<Product>) -> Self {
        Self {
            product_id: Some(product),
            ..Self::new(deal)
        }
    }

    /// What is taken off; `None` where the kind needs a number that is missing.
    ///
    /// ```
    /// # use crm_core::{Id, deals::{DealLine, Discount, DiscountKind}};
    /// let line = DealLine {
    ///     discount_kind: DiscountKind::Amount,
    ///     discount_amount: Some(5.into()),
    ///     ..DealLine::new(Id::new(uuid::Uuid::nil()))
    /// };
    /// assert_eq!(line.discount(), Some(Discount::Amount(5.into())));
    /// ```
    #[must_use]
    pub fn discount(&self) -> Option<Discount> {
        Some(match self.discount_kind {
            DiscountKind::None => Discount::None,
            DiscountKind::Percent => Discount::Percent(self.discount_percent?),
            DiscountKind::Amount => Discount::Amount(self.discount_amount?),
            DiscountKind::PercentThenAmount => {
                Discount::PercentThenAmount(self.discount_percent?, self.discount_amount?)
            }
        })
    }
}

/// R-041: more than nothing is sold, and the discount is of the stated kind.
fn check_line(line: &DealLine, faults: &mut Faults) {
    if line.quantity <= Decimal::ZERO {
        let message = "must be greater than zero";
        faults.add(DealLine::QUANTITY.name(), codes::OUT_OF_RANGE, message);
    }
    let kind = line.discount_kind;
    let stated = [
        (
            DealLine::DISCOUNT_PERCENT.name(),
            kind.has_percent(),
            line.discount_percent.is_some(),
        ),
        (
            DealLine::DISCOUNT_AMOUNT.name(),
            kind.has_amount(),
            line.discount_amount.is_some(),
        ),
    ];
    for (field, is_wanted, is_given) in stated {
        match (is_wanted, is_given) {
            (true, false) => {
                let message = "is needed for a discount of this kind";
                faults.add(field, codes::REQUIRED, message);
            }
            (false, true) => {
                let message = "is not part of a discount of this kind; set `discount_kind`";
                faults.add(field, codes::INCONSISTENT, message);
            }
            _ => {}
        }
    }
}

impl Records<'_, Deal> {
    /// Adds a line to a deal, behind the others unless it names a place. The amount of the deal
    /// follows when this is committed.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, deals::{Deal, DealLine}, products::Product};
    /// # async fn example(session: &Session, deal: Id<Deal>, licence: Id<Product>) -> Result<()> {
    /// let three = DealLine { quantity: 3.into(), ..DealLine::of_product(deal, licence) };
    /// let line = session.deals().add_line(three).await?;
    /// assert_eq!(session.deals().get(deal).await?.amount, Some(line.line_total));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such deal;
    /// [`Error::Validation`](crate::Error::Validation), among others if the product is not in use
    /// or has no price in the currency of the deal and none is given.
    pub async fn add_line(&mut self, line: DealLine) -> Result<Arc<Record<DealLine>>> {
        in_work!(self.workspace, |work| {
            touched_deal(work, line.deal_id).await?;
            work.create(line.clone()).await
        })
    }

    /// Changes a line. One that gets another product, and keeps name, code and price in the
    /// change, has those of the new product.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, deals::{DealLine, DiscountKind}};
    /// # use crm_core::value::Percent;
    /// # async fn example(session: &Session, line: Id<DealLine>) -> Result<()> {
    /// let tenth = Percent::from_whole(10)?;
    /// session
    ///     .deals()
    ///     .update_line(line, |line| {
    ///         line.discount_kind = DiscountKind::Percent;
    ///         line.discount_percent = Some(tenth);
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such line;
    /// [`Error::Validation`](crate::Error::Validation).
    pub async fn update_line(
        &mut self,
        line: Id<DealLine>,
        change: impl Fn(&mut DealLine) + Send + Sync,
    ) -> Result<Arc<Record<DealLine>>> {
        in_work!(self.workspace, |work| {
            let change = |line: &mut DealLine| {
                let before = line.clone();
                change(line);
                if line.product_id.is_some() && line.product_id != before.product_id {
                    let renew = [
                        line.product_name == before.product_name,
                        line.product_code == before.product_code,
                        line.unit_price == before.unit_price,
                    ];
                    if renew == [true; 3] {
                        line.product_name = None;
                        line.product_code = None;
                        line.unit_price = None;
                    }
                }
            };
            work.update(line, &change).await
        })
    }

    /// Takes a line off its deal.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn remove_line(&mut self, line: Id<DealLine>) -> Result<()> {
        in_work!(self.workspace, |work| {
            work.delete(DealLine::schema(), line.uuid()).await
        })
    }

    /// The lines of a deal, in their order.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound).
    pub async fn lines(&mut self, deal: Id<Deal>) -> Result<Vec<Arc<Record<DealLine>>>> {
        let lines: Result<Vec<_>> = in_work!(self.workspace, |work| {
            work.get(deal).await?;
            lines_of(work, &[deal]).await
        });
        let lines = lines?;
        self.workspace.hand_out(&lines).await?;
        Ok(lines)
    }

    /// Puts all lines of a deal into a new order, in one commit.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, deals::Deal};
    /// # async fn example(session: &Session, deal: Id<Deal>) -> Result<()> {
    /// let mut order: Vec<_> =
    ///     session.deals().lines(deal).await?.iter().map(|line| line.id).collect();
    /// order.reverse();
    /// session.deals().reorder_lines(deal, &order).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Validation`](crate::Error::Validation)
    /// unless each line of the deal is named exactly once.
    pub async fn reorder_lines(
        &mut self,
        deal: Id<Deal>,
        order: &[Id<DealLine>],
    ) -> Result<Vec<Arc<Record<DealLine>>>> {
        in_work!(self.workspace, |work| {
            touched_deal(work, deal).await?;
            let lines = lines_of(work, &[deal]).await?;
            let mut wanted = order.to_vec();
            wanted.sort_unstable();
            let mut known: Vec<_> = lines.iter().map(|line| line.id).collect();
            known.sort_unstable();
            if wanted != known {
                let message = "must name each line of the deal exactly once";
                return Err(FieldError::new("order", codes::INCONSISTENT, message).into());
            }
            let mut moved = Vec::with_capacity(order.len());
            for (place, id) in (1_u32..).zip(order) {
                let Some(line) = lines.iter().find(|line| line.id == *id) else {
                    continue;
                };
                let set = |line: &mut DealLine| line.position = place;
                moved.push(work.update_record(line.clone(), &set).await?);
            }
            Ok(moved)
        })
    }

    /// Copies the lines of a deal to another one in the same currency, behind those that it has,
    /// in one commit: what was copied from the products at the time, prices and discounts
    /// included.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, deals::Deal};
    /// # async fn example(session: &Session, last_year: Id<Deal>, renewal: Id<Deal>) -> Result<()> {
    /// let lines = session.deals().copy_lines(last_year, renewal).await?;
    /// for line in &lines {
    ///     println!("{}: {}", line.position, line.line_total);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound); [`Error::Validation`](crate::Error::Validation)
    /// if the deals have different currencies (R-085), or a product is no longer in use.
    pub async fn copy_lines(
        &mut self,
        from: Id<Deal>,
        to: Id<Deal>,
    ) -> Result<Vec<Arc<Record<DealLine>>>> {
        in_work!(self.workspace, |work| {
            let source = work.get(from).await?;
            let target = touched_deal(work, to).await?;
            if source.currency != target.currency {
                let message = "must be a deal in the same currency as the lines";
                return Err(FieldError::new("to", codes::INCONSISTENT, message).into());
            }
            let mut copies = Vec::new();
            for line in lines_of(work, &[from]).await? {
                let copy = DealLine {
                    deal_id: to,
                    position: 0,
                    ..line.data.clone()
                };
                copies.push(work.create(copy).await?);
            }
            Ok(copies)
        })
    }
}

/// The deal, in a new version: its lines change.
async fn touched_deal(work: &mut UnitOfWork, deal: Id<Deal>) -> Result<Arc<Record<Deal>>> {
    let record = work.get(deal).await?;
    work.touch_row(record.clone());
    Ok(record)
}

/// The lines of deals, those of each in their order.
async fn lines_of(work: &UnitOfWork, deals: &[Id<Deal>]) -> Result<Vec<Arc<Record<DealLine>>>> {
    let mut lines = Vec::new();
    for part in deals.chunks(crate::query::Filter::MAX_VALUES) {
        let of_part = DealLine::DEAL_ID.one_of(part.iter().copied());
        lines.extend(work.find_all(of_part, Vec::new()).await?);
    }
    // A line without a place stands behind those that have one.
    lines.sort_by_key(|line| (line.deal_id, line.position.wrapping_sub(1), line.id));
    Ok(lines)
}
