//! What keeps lines right, and the amount of a deal with them, whichever way they are written.

use async_trait::async_trait;
use rust_decimal::Decimal;

use super::totals::{TOLERANCE, TotalFault, line_total, sum_of_lines};
use super::{DealLine, lines_of};
use crate::deals::Deal;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, FieldError, Result, codes};
use crate::products::{Product, copied_price};
use crate::record::Record;
use crate::schema::Entity;

/// C-013, R-041, C-209: a line is priced in the currency of its deal, has what it copies of its
/// product, and its total.
#[derive(Debug)]
pub(crate) struct LineRules;

#[async_trait]
impl WriteRule for LineRules {
    fn object(&self) -> &'static str {
        "deal_line"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<DealLine>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let was_deleted = write
            .before::<DealLine>()
            .is_some_and(|before| before.deleted_at.is_some());
        let before = write.before::<DealLine>().map(|before| before.data.clone());
        let mut line = after.data.clone();
        let is_same = |before: &DealLine| !was_deleted && !is_repriced(before, &line);
        if before.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        let deal = work.row(Deal::schema(), line.deal_id.uuid()).await?;
        let deal = deal.filter(|row| !row.is_deleted()).and_then(|row| {
            let deal = Record::<Deal>::from_row(row.clone())?;
            Some((row, deal))
        });
        let Some((row, deal)) = deal else {
            let fault = FieldError::missing_record(DealLine::DEAL_ID.name());
            write.faults().push(fault);
            return Ok(());
        };
        // Whoever changes the deal, or another line of it, meanwhile is before or after this.
        work.touch_row(row);
        if before
            .as_ref()
            .is_some_and(|before| before.currency != deal.currency)
        {
            //
            let message = "must be a deal in the currency of the line";
            let field = DealLine::DEAL_ID.name();
            write.faults().add(field, codes::INCONSISTENT, message);
            return Ok(());
        }
        line.currency = deal.currency;
        let is_chosen = before
            .as_ref()
            .is_none_or(|before| before.product_id != line.product_id);
        copy_product(work, &mut line, is_chosen, write.faults()).await?;
        line.line_total = total_of(&line, write.faults());
        write.edit(|own: &mut DealLine| *own = line);
        Ok(())
    }
}

/// Whether something changed that the price of a line hangs on.
fn is_repriced(before: &DealLine, after: &DealLine) -> bool {
    let priced = |line: &DealLine| {
        (
            (line.deal_id, line.currency, line.line_total),
            (line.quantity, line.unit_price),
            (
                line.discount_kind,
                line.discount_percent,
                line.discount_amount,
            ),
        )
    };
    let is_chosen = after.product_id.is_some() && before.product_id != after.product_id;
    priced(before) != priced(after) || is_chosen || after.product_name.is_none()
}

/// C-209: fills what a line copies of its product, where it is not given.
async fn copy_product(
    work: &mut UnitOfWork,
    line: &mut DealLine,
    is_chosen: bool,
    faults: &mut Faults,
) -> Result<()> {
    let is_filled = line.product_name.is_some() && line.unit_price.is_some();
    let Some(id) = line.product_id.filter(|_| is_chosen || !is_filled) else {
        return Ok(());
    };
    let Some(product) = work.lookup::<Product>(id).await? else {
        let field = DealLine::PRODUCT_ID.name();
        faults.push(FieldError::missing_record(field.clone()));
        // That it has nothing to copy is not a fault of its own.
        line.product_name.get_or_insert_with(|| field.to_string());
        line.unit_price.get_or_insert(Decimal::ZERO);
        return Ok(());
    };
    if is_chosen {
        // Whether it is in use must still be so when this is written. It is read once for all lines.
        work.rely_on_row(product.clone());
        if !product.is_active || product.archived_at.is_some() {
            let message = "must be a product that is in use";
            let field = DealLine::PRODUCT_ID.name();
            faults.add(field, codes::INCONSISTENT, message);
        }
    }
    if line.product_name.is_none() {
        line.product_name = Some(product.name.clone());
        if line.product_code.is_none() {
            line.product_code.clone_from(&product.sku);
        }
    }
    if line.unit_price.is_none() {
        let price = copied_price(work, &product, line.currency).await?;
        line.unit_price = price.map(|price| price.amount());
        if line.unit_price.is_none() {
            let message = "the product has no price in the currency of the deal; give one";
            let field = DealLine::UNIT_PRICE.name();
            faults.add(field, codes::REQUIRED, message);
        }
    }
    Ok(())
}

/// the total, or zero where what it hangs on is at fault.
fn total_of(line: &DealLine, faults: &mut Faults) -> Decimal {
    let (Some(price), Some(discount)) = (line.unit_price, line.discount()) else {
        return Decimal::ZERO;
    };
    match line_total(line.quantity, price, discount, line.currency) {
        Ok(total) => total,
        Err(fault) => {
            let is_valid = line.quantity > Decimal::ZERO && price >= Decimal::ZERO;
            let field = match fault {
                TotalFault::Overflow => DealLine::LINE_TOTAL.name(),
                TotalFault::Negative if line.discount_amount.is_some() => {
                    DealLine::DISCOUNT_AMOUNT.name()
                }
                TotalFault::Negative => DealLine::LINE_TOTAL.name(),
            };
            if is_valid {
                faults.add(field, codes::OUT_OF_RANGE, fault.to_string());
            }
            Decimal::ZERO
        }
    }
}

/// a deal with lines has the amount that they come to, and keeps their currency.
#[derive(Debug)]
pub(crate) struct AmountRule;

#[async_trait]
impl WriteRule for AmountRule {
    fn object(&self) -> &'static str {
        "deal"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Deal>() else {
            return Ok(());
        };
        let (id, amount) = (after.id, after.amount);
        let before = write.before::<Deal>();
        let Some(before) = before.filter(|before| before.deleted_at.is_none()) else {
            return Ok(());
        };
        let is_other_amount = before.amount != amount;
        let is_other_currency = before.currency != after.currency;
        if write.deletes() || write.follows_lines() || !(is_other_amount || is_other_currency) {
            return Ok(());
        }
        let lines = lines_of(work, &[id]).await?;
        if is_other_currency && !lines.is_empty() {
            let message =
                "the lines are priced in the currency that the deal has; remove them first";
            let field = Deal::CURRENCY.name();
            write.faults().add(field, codes::INCONSISTENT, message);
        }
        let expected = sum_of_lines(lines.iter().map(|line| line.line_total));
        if let Some(fault) = contradiction(amount, expected) {
            write.faults().push(fault);
        }
        Ok(())
    }
}

/// What is wrong with an amount beside lines that come to a sum.
fn contradiction(
    amount: Option<Decimal>,
    expected: Result<Decimal, TotalFault>,
) -> Option<FieldError> {
    let field = Deal::AMOUNT.name();
    let expected = match expected {
        Ok(expected) => expected,
        Err(fault) => {
            return Some(FieldError::new(
                field,
                codes::OUT_OF_RANGE,
                fault.to_string(),
            ));
        }
    };
    if expected <= Decimal::ZERO {
        return None;
    }
    let difference = amount.and_then(|amount| amount.checked_sub(expected));
    let is_near = difference.is_some_and(|difference| difference.abs() <= TOLERANCE);
    let message = "must be what the lines of the deal come to";
    let fault = FieldError::new(field, codes::INCONSISTENT, message);
    (!is_near).then(|| fault.with("expected", expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn one_hundredth_is_no_contradiction() {
        let number = |text: &str| text.parse::<Decimal>().unwrap();
        let lines = || Ok(number("100"));
        for (amount, is_wrong) in [
            (Some("100"), false),
            (Some("100.01"), false),
            (Some("99.99"), false),
            (Some("100.0101"), true),
            (Some("99.9899"), true),
            (Some("0"), true),
            (None, true),
        ] {
            let found = contradiction(amount.map(number), lines());
            assert_eq!(found.is_some(), is_wrong, "{amount:?}");
            let expected = found.map(|fault| fault.params["expected"].clone());
            assert!(expected.is_none_or(|expected| expected == number("100").into()));
        }
        // Lines that come to nothing leave the amount free.
        assert_eq!(contradiction(Some(number("7")), Ok(Decimal::ZERO)), None);
        assert!(contradiction(Some(number("7")), Err(TotalFault::Overflow)).is_some());
    }
}
