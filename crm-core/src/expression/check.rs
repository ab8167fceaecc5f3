//! The types of an expression: every fault is found before it is first evaluated.

use super::datum::{Datum, Type};
use super::evaluate::{Code, Context, Evaluation};
use super::fault::{Found, Problem, Span, codes};
use super::functions::{
    Budget, FUNCTIONS, Function, How, Returns, check_constant, function, one_of,
};
use super::scope::{Dependency, PathFault, Scope, Values, nearest};
use super::tree::{Among, Kind, Node, Operator, Path};
use super::{MAX_REFERENCES, MAX_SOURCE_BYTES};
use crate::value::TimeZone;

/// An expression whose types fit.
pub(super) struct Fitting {
    pub(super) code: Code,
    pub(super) value_type: Type,
    pub(super) is_nullable: bool,
    pub(super) is_volatile: bool,
    pub(super) dependencies: Vec<Dependency>,
}

/// Checks a tree; an expected type is that of the whole.
pub(super) fn check(
    tree: &Node,
    scope: &dyn Scope,
    expected: Option<Type>,
) -> Result<Fitting, Vec<Found>> {
    let mut checker = Checker {
        scope,
        dependencies: Vec::new(),
        faults: Vec::new(),
        is_volatile: false,
    };
    let checked = checker.part(tree);
    match (checked.value_type, expected) {
        (Some(value_type), Some(expected)) if value_type != expected => {
            let message = format!("the expression gives {value_type}; it must give {expected}");
            checker.fault(tree.span, codes::WRONG_TYPE, message);
        }
        (None, None) if !checked.is_faulty => {
            let message = "the expression is always null; name a field or a value";
            checker.fault(tree.span, codes::NO_TYPE, message);
        }
        _ => {}
    }
    let value_type = checked.value_type.or(expected);
    match value_type {
        Some(value_type) if checker.faults.is_empty() => Ok(Fitting {
            code: checked.code,
            value_type,
            is_nullable: checked.is_nullable,
            is_volatile: checker.is_volatile,
            dependencies: checker.dependencies,
        }),
        _ => Err(checker.faults),
    }
}

/// A part whose type is known, unless it is faulty or null.
struct Checked {
    code: Code,
    /// None for a part that is always null, and for a faulty one.
    value_type: Option<Type>,
    is_nullable: bool,
    is_faulty: bool,
    span: Span,
}

impl Checked {
    fn is_constant(&self) -> bool {
        matches!(self.code, Code::Constant(_)) && !self.is_faulty
    }

    fn is_null(&self) -> bool {
        matches!(self.code, Code::Constant(Datum::Null)) && !self.is_faulty
    }

    fn is_zero(&self) -> bool {
        matches!(&self.code, Code::Constant(Datum::Number(number)) if number.is_zero())
    }
}

struct Checker<'a> {
    scope: &'a dyn Scope,
    dependencies: Vec<Dependency>,
    faults: Vec<Found>,
    is_volatile: bool,
}

/// No fields, for parts that name none.
struct NoValues;

impl Values for NoValues {
    fn value<'v>(&'v self, _: &Dependency) -> Datum<'v> {
        Datum::Null
    }
}

const CONDITION: &[Type] = &[Type::Boolean];

impl Checker<'_> {
    fn fault(&mut self, span: Span, code: &'static str, message: impl Into<String>) {
        self.faults.push(Found::new(span, code, message));
    }

    /// A faulty part, which fits everywhere, so that one fault is told once.
    fn faulty(&self, span: Span) -> Checked {
        Checked {
            code: Code::Constant(Datum::Null),
            value_type: None,
            is_nullable: true,
            is_faulty: true,
            span,
        }
    }

    fn constant(value: Datum<'static>, span: Span) -> Checked {
        Checked {
            value_type: value.value_type(),
            is_nullable: value.is_null(),
            code: Code::Constant(value),
            is_faulty: false,
            span,
        }
    }

    /// A part of others. What consists of constants is computed now, and its problem is a fault.
    fn made(
        &mut self,
        code: Code,
        value_type: Option<Type>,
        is_nullable: bool,
        of: &[&Checked],
        span: Span,
    ) -> Checked {
        let made = Checked {
            code,
            value_type,
            is_nullable,
            is_faulty: of.iter().any(|part| part.is_faulty),
            span,
        };
        // The parts of a moment depend on the time zone of the evaluation.
        let is_fixed = |part: &&Checked| {
            part.is_constant() && part.value_type.is_none_or(|known| known != Type::DateTime)
        };
        if made.is_faulty || !of.iter().all(is_fixed) {
            return made;
        }
        let evaluation = Evaluation {
            dependencies: &[],
            values: &NoValues,
            context: &Context::at(chrono::DateTime::UNIX_EPOCH, TimeZone::UTC),
            budget: Budget::new(0),
        };
        match evaluation.of(&made.code) {
            // A long text is made when it is needed.
            Ok(Datum::Text(text)) if text.len() > MAX_SOURCE_BYTES => made,
            Ok(value) => Checked {
                is_nullable: value.is_null(),
                code: Code::Constant(value.into_owned()),
                ..made
            },
            Err(error) => {
                self.problem(error.span, error.problem);
                self.faulty(span)
            }
        }
    }

    fn problem(&mut self, span: Span, problem: Problem) {
        self.fault(span, problem.code(), problem.message());
    }

    /// Whether a part is of one of some types.
    fn is_one_of(&mut self, part: &Checked, types: &[Type], user: &str) -> bool {
        let Some(given) = part.value_type.filter(|given| !types.contains(given)) else {
            return !part.is_faulty;
        };
        let advice = match (types, given) {
            ([Type::Text], Type::List) => "; use `join` to make it a text",
            ([Type::Text], _) => "; use `text` to make it one",
            ([Type::Number], Type::Text) => "; use `number` to make it one",
            ([Type::Number], Type::Money) => "; use `amount` to take the number of it",
            ([Type::Date], Type::DateTime) => "; use `date` to take the day of it",
            ([Type::Date] | [Type::DateTime], Type::Text) => {
                "; write date(\"2026-01-31\") or datetime(\"2026-01-31T12:00:00Z\")"
            }
            ([Type::Boolean], _) => "; compare it with something",
            _ => "",
        };
        let message = format!("{user} takes {}, not {given}{advice}", one_of(types));
        self.fault(part.span, codes::WRONG_TYPE, message);
        false
    }

    /// The one type of several parts; none where all are null.
    fn common(&mut self, parts: &[&Checked], user: &str) -> Option<Type> {
        let mut known: Option<Type> = None;
        for part in parts {
            let Some(given) = part.value_type else {
                continue;
            };
            match known {
                None => known = Some(given),
                Some(first) if first == given => {}
                Some(first) => {
                    let message = format!(
                        "{user} has {first} and {given}; make them one type, as with `text`"
                    );
                    self.fault(part.span, codes::WRONG_TYPE, message);
                    return known;
                }
            }
        }
        known
    }

    fn part(&mut self, node: &Node) -> Checked {
        let span = node.span;
        match &node.kind {
            Kind::Null => Self::constant(Datum::Null, span),
            Kind::Boolean(value) => Self::constant(Datum::Boolean(*value), span),
            Kind::Number(number) => Self::constant(Datum::Number(*number), span),
            Kind::Text(text) => Self::constant(Datum::from(text.to_string()), span),
            Kind::Field(path) => self.field(path, span),
            Kind::Negate(value) => {
                let value = self.part(value);
                self.is_one_of(&value, &[Type::Number, Type::Money], "`-`");
                let (value_type, is_nullable) = (value.value_type, value.is_nullable);
                let code = Code::Negate(Box::new(value.code.clone()), span);
                self.made(code, value_type, is_nullable, &[&value], span)
            }
            Kind::Not(value) => {
                let value = self.part(value);
                self.is_one_of(&value, CONDITION, "`not`");
                let is_nullable = value.is_nullable;
                let code = Code::Not(Box::new(value.code.clone()), span);
                self.made(code, Some(Type::Boolean), is_nullable, &[&value], span)
            }
            Kind::Binary(operator, left, right) => {
                let (left, right) = (self.part(left), self.part(right));
                self.binary(*operator, left, right, span)
            }
            Kind::IsNull { value, is_null } => {
                let value = self.part(value);
                let code = Code::IsNull {
                    value: Box::new(value.code.clone()),
                    is_null: *is_null,
                };
                self.made(code, Some(Type::Boolean), false, &[&value], span)
            }
            Kind::In {
                value,
                among,
                is_in,
            } => {
                let value = self.part(value);
                match among {
                    Among::Values(values) => {
                        let values = values.iter().map(|value| self.part(value)).collect();
                        self.among(value, values, *is_in, span)
                    }
                    Among::List(list) => {
                        let list = self.part(list);
                        self.in_list(value, list, *is_in, span)
                    }
                }
            }
            Kind::Call { name, arguments } => {
                let arguments = arguments.iter().map(|node| self.part(node)).collect();
                self.call(name, arguments, span)
            }
        }
    }

    fn field(&mut self, path: &Path, span: Span) -> Checked {
        let known = self
            .dependencies
            .iter()
            .position(|known| known.path == *path);
        let place = match known {
            Some(place) => place,
            None => match self.scope.field(path) {
                Ok(field) => {
                    self.dependencies.push(Dependency {
                        path: path.clone(),
                        field,
                    });
                    self.dependencies.len() - 1
                }
                Err(fault) => {
                    let (code, message) = told(path, fault);
                    self.fault(span, code, message);
                    return self.faulty(span);
                }
            },
        };
        let field = self.dependencies.get(place).map(|known| &known.field);
        Checked {
            code: Code::Field(place),
            value_type: field.map(|field| field.value_type),
            is_nullable: field.is_none_or(|field| field.is_nullable),
            is_faulty: false,
            span,
        }
    }

    fn binary(&mut self, operator: Operator, left: Checked, right: Checked, span: Span) -> Checked {
        let is_nullable = left.is_nullable || right.is_nullable;
        let user = format!("`{}`", operator.sign());
        let condition = Some(Type::Boolean);
        let operands =
            |left: &Checked, right: &Checked| Box::new([left.code.clone(), right.code.clone()]);
        match operator {
            Operator::And | Operator::Or => {
                self.is_one_of(&left, CONDITION, &user);
                self.is_one_of(&right, CONDITION, &user);
                let operands = operands(&left, &right);
                let code = match operator {
                    Operator::And => Code::And(operands, span),
                    _ => Code::Or(operands, span),
                };
                self.made(code, condition, is_nullable, &[&left, &right], span)
            }
            Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::AtMost
            | Operator::Greater
            | Operator::AtLeast => self.comparison(operator, left, right, span),
            Operator::Join => {
                self.is_one_of(&left, &[Type::Text], &user);
                self.is_one_of(&right, &[Type::Text], &user);
                let code = Code::Compute(operator, operands(&left, &right), span);
                self.made(code, Some(Type::Text), is_nullable, &[&left, &right], span)
            }
            _ => {
                let (given, operator) = match self.computed(operator, &left, &right, span) {
                    Ok(fitting) => fitting,
                    Err(()) => return self.faulty(span),
                };
                let code = Code::Compute(operator, operands(&left, &right), span);
                self.made(code, given, is_nullable, &[&left, &right], span)
            }
        }
    }

    /// The type of a calculation, none where both sides are null, and how it is done.
    fn computed(
        &mut self,
        operator: Operator,
        left: &Checked,
        right: &Checked,
        span: Span,
    ) -> Result<(Option<Type>, Operator), ()> {
        use Type::{Date, Money, Number, Text};
        if left.is_faulty || right.is_faulty {
            return Err(());
        }
        // A side that is null takes the type that fits the other.
        let fitting = match (operator, left.value_type, right.value_type) {
            (_, None, None) => Some(None),
            (Operator::Add, Some(Text) | None, Some(Text) | None) => {
                return Ok((Some(Text), Operator::Join));
            }
            (_, Some(Number) | None, Some(Number) | None) => Some(Some(Number)),
            (Operator::Add | Operator::Subtract, Some(Money) | None, Some(Money) | None) => {
                Some(Some(Money))
            }
            (Operator::Divide, Some(Money), Some(Money)) => Some(Some(Number)),
            (Operator::Multiply | Operator::Divide, Some(Money), Some(Number) | None)
            | (Operator::Multiply, Some(Number) | None, Some(Money)) => Some(Some(Money)),
            (Operator::Add | Operator::Subtract, Some(Date), Some(Number) | None) => {
                Some(Some(Date))
            }
            (Operator::Subtract, Some(Date), Some(Date)) => Some(Some(Number)),
            _ => None,
        };
        if let Some(fitting) = fitting {
            return Ok((fitting, operator));
        }
        let name = |part: &Checked| part.value_type.map_or("null", Type::name);
        let (left, right) = (name(left), name(right));
        let advice = match (operator, left, right) {
            (Operator::Add, "text", _) | (Operator::Add, _, "text") => {
                "; use `text` to make both texts"
            }
            (_, "money", "number") | (_, "number", "money") => {
                "; use `money` to make the number an amount, or `amount` to take that of the other"
            }
            (_, "datetime", _) | (_, _, "datetime") => {
                "; use `add_hours`, `add_days` or `hours_between`"
            }
            (_, "text", _) | (_, _, "text") => "; use `number` to make a text a number",
            _ => "",
        };
        let sign = operator.sign();
        let message = format!("`{sign}` does not take {left} and {right}{advice}");
        self.fault(span, codes::WRONG_TYPE, message);
        Err(())
    }

    fn comparison(
        &mut self,
        operator: Operator,
        mut left: Checked,
        mut right: Checked,
        span: Span,
    ) -> Checked {
        if left.is_faulty || right.is_faulty {
            return self.faulty(span);
        }
        let sign = operator.sign();
        if left.is_null() || right.is_null() {
            let message = "nothing is equal to null; write `is null` or `is not null`";
            self.fault(span, codes::NULL_COMPARISON, message);
            return self.faulty(span);
        }
        // Zero is zero in every currency.
        number_beside_zero(&mut left, &right);
        number_beside_zero(&mut right, &left);
        let is_equality = matches!(operator, Operator::Equal | Operator::NotEqual);
        let (of_left, of_right) = (left.value_type, right.value_type);
        let message = match (of_left, of_right) {
            (Some(one), Some(other)) if one != other => {
                let advice = match (one, other) {
                    (Type::Money, Type::Number) | (Type::Number, Type::Money) => {
                        "; write the amount with its currency, as money(1000, \"EUR\"), or take the \
                         number of the other one by `amount`"
                    }
                    (Type::Date, Type::DateTime) | (Type::DateTime, Type::Date) => {
                        "; use `date` to take the day of the moment"
                    }
                    (Type::Date | Type::DateTime, Type::Text)
                    | (Type::Text, Type::Date | Type::DateTime) => {
                        "; write date(\"2026-01-31\") or datetime(\"2026-01-31T12:00:00Z\")"
                    }
                    (Type::Number, Type::Text) | (Type::Text, Type::Number) => {
                        "; use `number` to make the text a number"
                    }
                    (Type::Id, Type::Text) | (Type::Text, Type::Id) => {
                        "; use `id` to make the text an id"
                    }
                    (Type::List, Type::Text) | (Type::Text, Type::List) => {
                        "; use `contains` to look for an entry of the list"
                    }
                    _ => "",
                };
                Some(format!(
                    "`{sign}` does not compare {one} with {other}{advice}"
                ))
            }
            (Some(Type::List), _) => Some(format!(
                "`{sign}` does not compare lists; use `contains` or `count`"
            )),
            (Some(known @ (Type::Boolean | Type::Id)), _) if !is_equality => Some(format!(
                "`{sign}` does not compare {known}; it has no order"
            )),
            _ => None,
        };
        if let Some(message) = message {
            self.fault(span, codes::WRONG_TYPE, message);
            return self.faulty(span);
        }
        if is_equality {
            self.is_option(&left, &right);
            self.is_option(&right, &left);
        }
        let code = Code::Compare {
            operator,
            ignore_case: self.ignores_case(&left) || self.ignores_case(&right),
            operands: Box::new([left.code.clone(), right.code.clone()]),
            span,
        };
        let is_nullable = left.is_nullable || right.is_nullable;
        self.made(
            code,
            Some(Type::Boolean),
            is_nullable,
            &[&left, &right],
            span,
        )
    }

    fn dependency(&self, part: &Checked) -> Option<&Dependency> {
        match part.code {
            Code::Field(place) => self.dependencies.get(place),
            _ => None,
        }
    }

    fn ignores_case(&self, part: &Checked) -> bool {
        self.dependency(part)
            .is_some_and(|known| known.field.ignore_case)
    }

    /// That a text is one of the options of the field that it is compared with.
    fn is_option(&mut self, field: &Checked, text: &Checked) {
        let Code::Constant(Datum::Text(text_value)) = &text.code else {
            return;
        };
        let Some(known) = self.dependency(field) else {
            return;
        };
        let Some(options) = &known.field.options else {
            return;
        };
        if options.iter().any(|option| *option == **text_value) {
            return;
        }
        let meant = nearest(text_value, options.iter().map(String::as_str));
        let advice = meant.map_or_else(
            || format!("use one of {}", options.join(", ")),
            |meant| format!("did you mean \"{meant}\"?"),
        );
        let message = format!("`{}` has no such option; {advice}", known.path);
        self.fault(text.span, codes::NOT_AN_OPTION, message);
    }

    fn among(&mut self, value: Checked, among: Vec<Checked>, is_in: bool, span: Span) -> Checked {
        let mut parts = vec![&value];
        parts.extend(&among);
        if parts.iter().any(|part| part.is_null()) {
            let message = "nothing is equal to null; write `is null` or `is not null`";
            self.fault(span, codes::NULL_COMPARISON, message);
            return self.faulty(span);
        }
        let common = self.common(&parts, "`in`");
        if common == Some(Type::List) {
            let message = "`in` does not look for lists; use `contains`";
            self.fault(span, codes::WRONG_TYPE, message);
            return self.faulty(span);
        }
        for text in &among {
            self.is_option(&value, text);
        }
        let code = Code::In {
            value: Box::new(value.code.clone()),
            among: among.iter().map(|part| part.code.clone()).collect(),
            is_in,
            ignore_case: parts.iter().any(|part| self.ignores_case(part)),
            span,
        };
        let is_nullable = parts.iter().any(|part| part.is_nullable);
        self.made(code, Some(Type::Boolean), is_nullable, &parts, span)
    }

    fn in_list(&mut self, value: Checked, list: Checked, is_in: bool, span: Span) -> Checked {
        self.is_one_of(&value, &[Type::Text], "`in` with a list");
        self.is_one_of(&list, &[Type::List], "`in` without parentheses");
        let code = Code::InList {
            operands: Box::new([value.code.clone(), list.code.clone()]),
            is_in,
            span,
        };
        let is_nullable = value.is_nullable || list.is_nullable;
        self.made(
            code,
            Some(Type::Boolean),
            is_nullable,
            &[&value, &list],
            span,
        )
    }

    fn call(&mut self, name: &str, arguments: Vec<Checked>, span: Span) -> Checked {
        let Some(function) = function(name) else {
            let names = FUNCTIONS.iter().map(|function| function.name);
            let advice = nearest(name, names).map_or_else(
                || "see the list of functions".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            let message = format!("there is no function `{name}`; {advice}");
            self.fault(span, codes::UNKNOWN_FUNCTION, message);
            return self.faulty(span);
        };
        let (least, greatest) = function.counts();
        let count = arguments.len();
        if count < least || greatest.is_some_and(|greatest| count > greatest) {
            let message = format!("write {}", function.signature());
            self.fault(span, codes::ARGUMENTS, message);
            return self.faulty(span);
        }
        match function.how {
            How::If | How::Case => self.case(function, &arguments, span),
            How::Coalesce => self.coalesce(&arguments, span),
            How::IsBlank => {
                let parts: Vec<&Checked> = arguments.iter().collect();
                let value = arguments.first().map(|part| part.code.clone());
                let value = value.unwrap_or(Code::Constant(Datum::Null));
                let code = Code::IsBlank(Box::new(value));
                self.made(code, Some(Type::Boolean), false, &parts, span)
            }
            How::Strict(call) => {
                let is_nullable = arguments.iter().any(|part| part.is_nullable);
                let code = |arguments| Code::Call {
                    call,
                    is_strict: true,
                    arguments,
                    span,
                };
                self.plain(function, &arguments, is_nullable, code, span)
            }
            How::Lenient(call) => {
                let is_nullable = arguments.first().is_none_or(|part| part.is_nullable);
                let code = |arguments| Code::Call {
                    call,
                    is_strict: false,
                    arguments,
                    span,
                };
                self.plain(function, &arguments, is_nullable, code, span)
            }
            How::Clock(call) => {
                self.is_volatile = true;
                let value_type = match function.returns {
                    Returns::Type(returned) => Some(returned),
                    Returns::First | Returns::Common => None,
                };
                // Not made, as it is no constant.
                Checked {
                    code: Code::Call {
                        call,
                        is_strict: true,
                        arguments: Box::default(),
                        span,
                    },
                    value_type,
                    is_nullable: false,
                    is_faulty: false,
                    span,
                }
            }
        }
    }

    /// The call of a function that has all its arguments evaluated.
    fn plain(
        &mut self,
        function: &'static Function,
        arguments: &[Checked],
        is_nullable: bool,
        code: impl FnOnce(Box<[Code]>) -> Code,
        span: Span,
    ) -> Checked {
        let user = format!("`{}`", function.name);
        let mut fits = true;
        for (place, argument) in arguments.iter().enumerate() {
            let Some(parameter) = function.parameter(place) else {
                continue;
            };
            let user = format!("{user} ({})", parameter.name);
            fits &= self.is_one_of(argument, parameter.types, &user);
            if let Code::Constant(constant) = &argument.code
                && let Err(problem) = check_constant(parameter, constant)
            {
                self.problem(argument.span, problem);
                fits = false;
            }
        }
        let parts: Vec<&Checked> = arguments.iter().collect();
        let value_type = match function.returns {
            Returns::Type(returned) => Some(returned),
            Returns::First => arguments.first().and_then(|first| first.value_type),
            Returns::Common if fits => {
                let before = self.faults.len();
                let common = self.common(&parts, &user);
                fits = self.faults.len() == before;
                common
            }
            Returns::Common => None,
        };
        if !fits {
            return self.faulty(span);
        }
        let code = code(arguments.iter().map(|part| part.code.clone()).collect());
        self.made(code, value_type, is_nullable, &parts, span)
    }

    fn case(&mut self, function: &Function, arguments: &[Checked], span: Span) -> Checked {
        let user = format!("`{}`", function.name);
        let pairs = arguments.chunks_exact(2);
        let otherwise = pairs.remainder().first();
        // `if` has one condition, so its third argument stands alone.
        for pair in arguments.chunks_exact(2) {
            if let [condition, _] = pair {
                self.is_one_of(condition, CONDITION, &format!("{user} (condition)"));
            }
        }
        let mut values: Vec<&Checked> = pairs.filter_map(|pair| pair.get(1)).collect();
        values.extend(otherwise);
        let value_type = self.common(&values, &user);
        let is_nullable = otherwise.is_none() || values.iter().any(|value| value.is_nullable);
        let branches = arguments.chunks_exact(2).filter_map(|pair| match pair {
            [condition, value] => Some([condition.code.clone(), value.code.clone()]),
            _ => None,
        });
        let null = Code::Constant(Datum::Null);
        let code = Code::Case {
            branches: branches.collect(),
            otherwise: Box::new(otherwise.map_or(null, |part| part.code.clone())),
            span,
        };
        let parts: Vec<&Checked> = arguments.iter().collect();
        self.made(code, value_type, is_nullable, &parts, span)
    }

    fn coalesce(&mut self, arguments: &[Checked], span: Span) -> Checked {
        let parts: Vec<&Checked> = arguments.iter().collect();
        let value_type = self.common(&parts, "`coalesce`");
        let is_nullable = arguments.iter().all(|part| part.is_nullable);
        let code = Code::Coalesce(arguments.iter().map(|part| part.code.clone()).collect());
        self.made(code, value_type, is_nullable, &parts, span)
    }
}

/// Takes the number of an amount that is compared with zero.
fn number_beside_zero(amount: &mut Checked, other: &Checked) {
    if amount.value_type != Some(Type::Money) || !other.is_zero() {
        return;
    }
    if let Some(How::Strict(call)) = function("amount").map(|function| function.how) {
        let code = std::mem::replace(&mut amount.code, Code::Constant(Datum::Null));
        amount.code = Code::Call {
            call,
            is_strict: true,
            arguments: Box::new([code]),
            span: amount.span,
        };
        amount.value_type = Some(Type::Number);
    }
}

/// The code and message of a path's fault.
fn told(path: &Path, fault: PathFault) -> (&'static str, String) {
    let name = |at: usize| path.name(at).unwrap_or_default().to_owned();
    match fault {
        PathFault::Unknown { at, suggestion } => {
            let advice = suggestion.map_or_else(
                || "see the fields of the object".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            let message = format!("there is no field `{}`; {advice}", name(at));
            (codes::UNKNOWN_FIELD, message)
        }
        PathFault::Undefined { at } => {
            let message = format!(
                "`{}` has no definition, so its type is not known; define the field first",
                name(at)
            );
            (codes::UNDEFINED_FIELD, message)
        }
        PathFault::Untyped { at } => {
            let message = format!("`{}` is a document; name one of its members", name(at));
            (codes::UNTYPED_FIELD, message)
        }
        PathFault::NotAReference { at } => {
            let message = format!(
                "`{}` is not a reference, so nothing can be named behind it",
                name(at)
            );
            (codes::NOT_A_REFERENCE, message)
        }
        PathFault::TooManyReferences => {
            let message = format!("the path follows more than {MAX_REFERENCES} references");
            (codes::TOO_MANY_REFERENCES, message)
        }
        PathFault::Withheld { at } => {
            let message = format!(
                "`{}` must not be looked at: it changes with what is decided",
                name(at)
            );
            (codes::UNSUPPORTED, message)
        }
    }
}
