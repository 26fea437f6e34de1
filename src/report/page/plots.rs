//! The plots. The crate plotters draws them, in the colours of the light page; the page's style maps these to the dark ones.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 264);
/// Where the plot of scores begins, with room for verdicts that showed none.
const FLOOR: f64 = -0.12;
/// Where verdicts without a shown score stand: below the axis, so that they do not look like a score of zero.
const UNTOLD: f64 = -0.07;
/// The largest value on an axis of dollars or trials: a larger one fits no label and breaks the arithmetic of ticks.
const MOST: f64 = 1e9;

const GOOD: RGBColor = RGBColor(0x1A, 0x7F, 0x4B);
const BAD: RGBColor = RGBColor(0xC0, 0x2B, 0x2B);
const MIDDLE: RGBColor = RGBColor(0xB8, 0x86, 0x0B);
const LINK: RGBColor = RGBColor(0x0B, 0x57, 0xD0);
const DIM: RGBColor = RGBColor(0x5A, 0x60, 0x69);
const LINE: RGBColor = RGBColor(0xD6, 0xD9, 0xDE);

/// How a point ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PointKind {
    Baseline,
    Recorded,
    Passed,
    Rejected,
    Undecided,
}

impl PointKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            PointKind::Baseline => "baseline",
            PointKind::Recorded => "recorded",
            PointKind::Passed => "passed, not recorded",
            PointKind::Rejected => "rejected",
            PointKind::Undecided => "undecided",
        }
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            PointKind::Baseline => "k-base",
            PointKind::Recorded => "k-rec",
            PointKind::Passed => "k-pass",
            PointKind::Rejected => "k-rej",
            PointKind::Undecided => "k-und",
        }
    }

    fn colour(self) -> RGBColor {
        match self {
            PointKind::Baseline => DIM,
            PointKind::Recorded => GOOD,
            PointKind::Passed => LINK,
            PointKind::Rejected => BAD,
            PointKind::Undecided => MIDDLE,
        }
    }
}

/// A verdict in the plot of scores.
pub(super) struct Point {
    pub(super) label: String,
    pub(super) kind: PointKind,
    pub(super) score: Option<f64>,
    pub(super) interval: Option<(f64, f64)>,
    /// What its first trials earned, where the score was measured afresh.
    pub(super) selected: Option<f64>,
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// The lower axis.
struct Axis<'a> {
    name: &'a str,
    range: Range<f64>,
    /// The score that it lies at.
    floor: f64,
    /// Its labels, at most.
    labels: usize,
    label: &'a dyn Fn(&f64) -> String,
}

/// A plot of scores: axes, and what `series` draws into them. It returns what lies above the drawing.
fn plot(about: &str, axis: &Axis<'_>, series: impl FnOnce(&Chart<'_, '_>) -> Drawn<Markup>) -> Markup {
    let mut drawing = String::new();
    let above =
        draw(&mut drawing, axis, series).expect("memory takes whatever is drawn, and the sizes here leave room");
    // An element of our own takes the place of plotters' `svg`, which cannot say what it is a picture of.
    let inside =
        drawing.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>")).map_or("", |(inside, _)| inside);
    html! {
        svg class="plot" viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img" aria-label=(about) {
            // Its texts are only numbers and our own names of axes.
            (PreEscaped(inside))
            (above)
        }
    }
}

fn draw(drawing: &mut String, axis: &Axis<'_>, series: impl FnOnce(&Chart<'_, '_>) -> Drawn<Markup>) -> Drawn<Markup> {
    let canvas = SVGBackend::with_string(drawing, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&canvas)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(axis.range.clone(), axis.floor..1.0)?;
    let text = || ("sans-serif", 14).with_color(DIM);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(TRANSPARENT)
        .bold_line_style(LINE)
        .light_line_style(TRANSPARENT)
        .set_all_tick_mark_size(3)
        .label_style(text())
        .axis_desc_style(text())
        .x_desc(axis.name)
        .x_labels(axis.labels)
        .x_label_formatter(axis.label)
        .y_desc("val_score")
        .y_labels(6)
        .y_label_formatter(&|score| format!("{score:.1}"))
        .draw()?;
    let above = series(&chart)?;
    canvas.present()?;
    Ok(above)
}

/// Shows a verdict when the pointer is anywhere above or below it.
fn told(chart: &Chart<'_, '_>, at: f64, point: &Point) -> Markup {
    let (left, top) = chart.backend_coord(&(at - 0.5, 1.0));
    let (right, bottom) = chart.backend_coord(&(at + 0.5, FLOOR));
    html! { rect class="told" x=(left) y=(top) width=((right - left).max(1)) height=(bottom - top) { title { (title(point)) } } }
}

/// A score where there is an axis for it.
fn level(score: f64) -> f64 {
    score.clamp(0.0, 1.0)
}

/// A line that keeps its height until the next point, and after the last one until `end`.
fn steps(points: impl Iterator<Item = (f64, f64)>, end: f64) -> PathElement<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points {
        line.extend(line.last().map(|(_, before)| (x, *before)));
        line.push((x, level(y)));
    }
    line.extend(line.last().map(|(_, last)| (end, *last)));
    PathElement::new(line, GOOD.stroke_width(2))
}

/// val_score over the verdicts, with the recorded score as a stepped line. `band`: how far a measurement strays by chance.
pub(super) fn scores(points: &[Point], band: Option<f64>) -> Markup {
    let range = -0.5..points.len().max(1) as f64 - 0.5;
    let recorded = || {
        let marked = points
            .iter()
            .enumerate()
            .filter(|(_, point)| matches!(point.kind, PointKind::Baseline | PointKind::Recorded));
        marked.filter_map(|(at, point)| Some((at as f64, point.score?)))
    };
    // One per verdict, or fewer: plotters then takes whole numbers.
    let labels = points.len().clamp(1, 25);
    let axis = Axis { name: "verdict", range: range.clone(), floor: FLOOR, labels, label: &|at| format!("{at:.0}") };
    plot("val_score over the verdicts", &axis, |chart| {
        let area = chart.plotting_area();
        if let Some((band, (_, last))) = band.zip(recorded().next_back()) {
            let corners = [(range.start, level(last + band)), (range.end, level(last - band))];
            area.draw(&Rectangle::new(corners, GOOD.mix(0.12).filled()))?;
        }
        area.draw(&steps(recorded(), range.end))?;
        for (at, point) in points.iter().enumerate() {
            let (x, colour) = (at as f64, point.kind.colour());
            if let Some((low, high)) = point.interval {
                area.draw(&PathElement::new([(x, level(low)), (x, level(high))], colour.mix(0.45)))?;
            }
            if let Some(selected) = point.selected {
                area.draw(&(EmptyElement::at((x, level(selected))) + Rectangle::new([(-3, -3), (3, 3)], colour)))?;
            }
            let place = (x, point.score.map_or(UNTOLD, level));
            match point.kind {
                PointKind::Rejected => area.draw(&Cross::new(place, 4, colour.stroke_width(2)))?,
                PointKind::Undecided => area.draw(&Circle::new(place, 4, colour.stroke_width(2)))?,
                _ => area.draw(&Circle::new(place, 4, colour.filled()))?,
            }
        }
        Ok(html! { @for (at, point) in points.iter().enumerate() { (told(chart, at as f64, point)) } })
    })
}

fn title(point: &Point) -> String {
    let score = point.score.map_or_else(|| "no score told".into(), |score| format!("val_score {score:.4}"));
    let interval = point.interval.map(|(low, high)| format!(", 95 % {low:.2}–{high:.2}")).unwrap_or_default();
    let selected = point.selected.map(|selected| format!(", chosen at {selected:.4}")).unwrap_or_default();
    format!("{}: {}, {score}{interval}{selected}", point.label, point.kind.word())
}

/// The recorded score against what was spent until then, both in order.
pub(super) fn spending(points: &[(f64, f64)], unit: &str) -> Markup {
    // Below a cent, or ten trials, labels would be all alike.
    let least = if unit == "dollars" { 0.01 } else { 10.0 };
    let end = points.iter().map(|(spent, _)| *spent).fold(least, f64::max).min(MOST);
    let places = if end < 0.1 { 3 } else { 2 * usize::from(end < 10.0) };
    let axis = Axis { name: unit, range: 0.0..end, floor: 0.0, labels: 9, label: &|spent| format!("{spent:.places$}") };
    plot(&format!("recorded score over {unit} spent"), &axis, |chart| {
        let points = points.iter().map(|(spent, score)| (spent.clamp(0.0, end), *score));
        chart.plotting_area().draw(&steps(points, end))?;
        Ok(html! {})
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [PointKind; 5] =
        [PointKind::Baseline, PointKind::Recorded, PointKind::Passed, PointKind::Rejected, PointKind::Undecided];

    fn point(kind: PointKind, score: Option<f64>) -> Point {
        Point { label: "a<b".into(), kind, score, interval: score.map(|score| (score, score)), selected: score }
    }

    /// The labels of the lower axis, after the names of both and the labels of the other.
    fn labels(drawing: &str, name: &str) -> Vec<String> {
        let texts = drawing.split("<text ").skip(1).filter_map(|text| text.split(['>', '<']).nth(1));
        let texts: Vec<String> = texts.map(|text| text.trim().to_owned()).collect();
        let (others, labels) = texts.split_at(8);
        assert_eq!(others, ["val_score", name, "0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        labels.to_vec()
    }

    fn sound(drawing: &str) {
        let wrong = ["NaN", "nan", "inf", "style=", "a<b", "width=\"-", "height=\"-"];
        assert_eq!(wrong.iter().find(|wrong| drawing.contains(**wrong)), None, "{drawing}");
        assert_eq!(drawing.matches("<svg ").count(), drawing.matches("</svg>").count());
    }

    #[test]
    fn each_kind_has_a_colour_that_the_style_of_the_page_knows() {
        let points: Vec<Point> = KINDS.iter().map(|kind| point(*kind, Some(0.5))).collect();
        let drawing = scores(&points, Some(0.1)).into_string();
        sound(&drawing);
        let colours = drawing.split("=\"#").skip(1).map(|rest| &rest[..6]);
        for colour in colours {
            for name in ["fill", "stroke"] {
                assert!(crate::report::page::STYLE.contains(&format!("[{name}=\"#{colour}\"]")), "{name} {colour}");
            }
        }
        for kind in KINDS {
            assert!(drawing.contains(&format!("<title>a&lt;b: {}, val_score 0.5000", kind.word())), "{drawing}");
        }
    }

    #[test]
    fn labels_are_round_numbers_each_once() {
        for count in (0..80).chain([999, 12_345]) {
            let points: Vec<Point> = (0..count).map(|_| point(PointKind::Passed, None)).collect();
            let drawing = scores(&points, None).into_string();
            sound(&drawing);
            let numbers: Vec<usize> = labels(&drawing, "verdict").iter().map(|text| text.parse().unwrap()).collect();
            assert!(
                numbers[0] == 0 && numbers.windows(2).all(|two| two[0] < two[1]) && numbers.len() < 26,
                "{numbers:?}"
            );
            assert!(count == 0 || numbers.iter().all(|number| *number < count), "{numbers:?}");
        }
        let labels = |end: f64, unit| labels(&spending(&[(0.0, 0.5), (end, 1.0)], unit).into_string(), unit);
        assert_eq!(labels(3.4, "dollars"), ["0.00", "0.50", "1.00", "1.50", "2.00", "2.50", "3.00"]);
        assert_eq!(labels(1247.2, "dollars"), ["0", "200", "400", "600", "800", "1000", "1200"]);
        assert_eq!(labels(90.0, "trials"), ["0", "20", "40", "60", "80"]);
        for power in -20..14 {
            for times in [1.0, 1.7, 2.0, 3.3, 5.0, 9.99] {
                for unit in ["dollars", "trials"] {
                    let labels = labels(times * 10f64.powi(power), unit);
                    let apart: std::collections::BTreeSet<_> = labels.iter().collect();
                    assert!(labels.len() > 2 && apart.len() == labels.len(), "{labels:?}");
                }
            }
        }
    }

    #[test]
    fn no_numbers_break_a_plot() {
        let far = [0.0, 1e-320, 1e-17, 0.3, 1.0, 7.0, 1e12, 1e300, f64::MAX];
        for unit in ["dollars", "trials"] {
            sound(&spending(&[], unit).into_string());
            for one in far {
                sound(&spending(&[(one, 0.5)], unit).into_string());
                sound(&spending(&[(one, 0.0); 3], unit).into_string());
                for other in far {
                    sound(&spending(&[(one.min(other), 0.0), (one.max(other), 1.0)], unit).into_string());
                }
            }
        }
        for band in [None, Some(0.0), Some(1e-320), Some(0.2), Some(f64::MAX)] {
            for score in [None, Some(0.0), Some(1e-320), Some(1.0), Some(f64::MAX), Some(f64::MIN)] {
                for kind in KINDS {
                    for count in [0, 1, 2, 50] {
                        let points: Vec<Point> = (0..count).map(|_| point(kind, score)).collect();
                        sound(&scores(&points, band).into_string());
                    }
                }
            }
        }
    }
}
