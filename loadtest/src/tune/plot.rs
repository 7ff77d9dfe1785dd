//! What was predicted and measured, as a picture: rates over batch sizes, a colour for each number of instances.

use std::io;

use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;

use super::{Setting, Trial, Tuning};

/// A rate of a setting.
type Point = (f64, f64);

const SIZE: (u32, u32) = (900, 420);

/// Colours that are told apart on white, also by who does not see red and green.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Why there is no picture: in memory, only for want of it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct PlotError(#[from] DrawingAreaErrorKind<io::Error>);

/// Draws capacity (hollow) and the rate within the objectives (filled) of what was tried, and what was predicted of
/// all settings (lines), as SVG.
pub(crate) fn svg(tuning: &Tuning, predicted: &[(Setting, f64)]) -> Result<String, PlotError> {
    let sizes = predicted.iter().map(|(setting, _)| *setting);
    let sizes = sizes.chain(tuning.trials.iter().map(|trial| trial.setting));
    let widest = sizes.map(|setting| x(setting) + 0.3).fold(1.0, f64::max);
    let measured = tuning.trials.iter().filter_map(|trial| trial.capacity);
    let rates = predicted.iter().map(|(_, rate)| *rate).chain(measured);
    let highest = rates.fold(1.0, f64::max) * 1.08;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let caption = format!(
            "{} version {}: requests/s by max_batch_size. Hollow: capacity; filled: within the objectives; line: predicted",
            tuning.model, tuning.version
        );
        let mut chart = ChartBuilder::on(&root)
            .caption(caption, ("sans-serif", 14))
            .margin(14)
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d(-0.3..widest, 0.0..highest)?;
        chart
            .configure_mesh()
            .x_desc("max_batch_size")
            .y_desc("requests/s")
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|x| {
                // Between two sizes there is none.
                if x.fract().abs() < 1e-9 {
                    format!("{:.0}", x.exp2())
                } else {
                    String::new()
                }
            })
            .y_label_formatter(&|y| format!("{y:.0}"))
            .draw()?;
        for (index, instances) in instances(tuning, predicted).into_iter().enumerate() {
            let colour = COLOURS.get(index % COLOURS.len()).copied().unwrap_or(BLACK);
            let line = predicted.iter();
            let line = line.filter(|(setting, _)| setting.instances == instances);
            let mut line: Vec<Point> = line.map(|(setting, rate)| (x(*setting), *rate)).collect();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            let label = format!("instances = {instances}");
            chart
                .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
                .label(label)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour));
            let of = |rate: fn(&Trial) -> Option<f64>| -> Vec<Point> {
                let trials = tuning.trials.iter();
                let trials = trials.filter(|trial| trial.setting.instances == instances);
                trials
                    .filter_map(|trial| Some((x(trial.setting), rate(trial)?)))
                    .collect()
            };
            let capacity = of(|trial| trial.capacity).into_iter();
            chart.draw_series(capacity.map(|at| Circle::new(at, 5, colour.stroke_width(2))))?;
            let kept = of(|trial| trial.sustained).into_iter();
            chart.draw_series(kept.map(|at| Circle::new(at, 5, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        root.present()?;
    }
    Ok(text)
}

/// Batch sizes double from one to the next.
fn x(setting: Setting) -> f64 {
    f64::from(setting.max_batch_size.max(1)).log2()
}

fn instances(tuning: &Tuning, predicted: &[(Setting, f64)]) -> Vec<u32> {
    let all = predicted.iter().map(|(setting, _)| setting.instances);
    let all = all.chain(tuning.trials.iter().map(|trial| trial.setting.instances));
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all.dedup();
    all
}
