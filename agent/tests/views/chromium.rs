//! The report as a browser shows it: light, dark, on a phone. `CORDON_SCREENSHOTS=DIR` keeps the pictures, to be looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{example, report};

/// Names under which distributions have it; the first is enough and the smallest.
const NAMES: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
/// Added to a copy of the page, in which scripts are allowed: leaves what it measures in the document.
const MEASURE: &str = "<script>const m = document.createElement('meta'); m.name = 'measured';
  m.content = [document.documentElement.scrollWidth, innerWidth, getComputedStyle(document.body).backgroundColor].join(' ');
  document.head.append(m);</script>";

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

/// `folder` is where it may write; nothing of it is asked for over the network.
fn browser(program: &Path, folder: &Path, width: u32, height: u32, is_dark: bool) -> Command {
    let mut command = Command::new(program);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--window-size={width},{height}"))
        // blink::mojom::PreferredColorScheme: 0 dark, 1 light.
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!is_dark)))
        .env("HOME", folder);
    command
}

#[test]
fn the_report_fits_a_desktop_and_a_phone_in_light_and_dark() {
    let Some(program) = chromium() else {
        println!(
            "NOT RUN the_report_fits_a_desktop_and_a_phone_in_light_and_dark: no Chromium here (Debian: chromium-headless-shell)"
        );
        return;
    };
    let root = tempfile::tempdir().unwrap();
    example::journal(root.path());
    let page = root.path().join("report.html");
    assert!(report(root.path(), &page, &[]).status.success());
    let html = fs::read_to_string(&page).unwrap();
    let policy = html.find("<meta http-equiv").unwrap();
    let end = policy + html[policy..].find('>').unwrap() + 1;
    let measured = root.path().join("measured.html");
    fs::write(&measured, format!("{}{}", html.replace(&html[policy..end], ""), MEASURE)).unwrap();
    let kept = std::env::var_os("CORDON_SCREENSHOTS").map_or_else(|| root.path().to_owned(), PathBuf::from);
    for (name, width, height, is_dark, ground) in [
        ("desktop-light", 1280, 3000, false, "rgb(244, 245, 247)"),
        ("desktop-dark", 1280, 3000, true, "rgb(16, 19, 24)"),
        ("phone-light", 390, 5200, false, "rgb(244, 245, 247)"),
        ("phone-dark", 360, 5200, true, "rgb(16, 19, 24)"),
    ] {
        let shown =
            browser(&program, root.path(), width, height, is_dark).arg("--dump-dom").arg(&measured).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let found = shown.split("name=\"measured\" content=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(
            found,
            Some(format!("{width} {width} {ground}").as_str()),
            "{name}: width of the content, of the window, ground"
        );
        let picture = kept.join(format!("{name}.png"));
        let taken = browser(&program, root.path(), width, height, is_dark)
            .arg(format!("--screenshot={}", picture.display()))
            .arg(&page)
            .output()
            .unwrap();
        let bytes =
            fs::read(&picture).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&taken.stderr)));
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 50_000, "{name}: {} bytes", bytes.len());
    }
}

#[test]
fn the_report_prints_on_pages_with_nothing_cut() {
    let test = "the_report_prints_on_pages_with_nothing_cut";
    let Some(program) = chromium() else {
        return println!("NOT RUN {test}: no Chromium here (Debian: chromium-headless-shell)");
    };
    let root = tempfile::tempdir().unwrap();
    example::journal(root.path());
    let page = root.path().join("report.html");
    assert!(report(root.path(), &page, &[]).status.success());
    let kept = std::env::var_os("CORDON_SCREENSHOTS").map_or_else(|| root.path().to_owned(), PathBuf::from);
    let pdf = kept.join("print.pdf");
    if kept != root.path() {
        fs::copy(&page, kept.join("report.html")).unwrap();
    }
    let printed = browser(&program, root.path(), 1280, 3000, true)
        .arg("--no-pdf-header-footer")
        .arg(format!("--print-to-pdf={}", pdf.display()))
        .arg(&page)
        .output()
        .unwrap();
    assert!(pdf.is_file(), "{}", String::from_utf8_lossy(&printed.stderr));
    let text = match Command::new("pdftotext").args(["-layout", pdf.to_str().unwrap(), "-"]).output() {
        Ok(output) => String::from_utf8(output.stdout).unwrap(),
        Err(error) => return println!("NOT RUN {test}: no pdftotext here: {error} (Debian: poppler-utils)"),
    };
    let pages: Vec<&str> = text.trim_end_matches('\u{c}').split('\u{c}').collect();
    assert!((2..=8).contains(&pages.len()), "{} pages", pages.len());
    for (number, page) in pages.iter().enumerate() {
        assert!(page.split_whitespace().count() > 10, "page {} is all but empty:\n{page}", number + 1);
        // The heading of a table is repeated on each of its pages, and does not stand alone on one.
        let last = page.trim_end().lines().last().unwrap_or_default();
        assert!(!last.trim_end().ends_with("Hits"), "page {} ends with the heading of a table:\n{page}", number + 1);
    }
    // What tables are about. A value may be broken over lines and no part of it may be missing at the edge of the page.
    let html = fs::read_to_string(&page).unwrap();
    let squeezed: String = text.split_whitespace().collect();
    let rows = html.split("<th scope=\"row\">").skip(1).filter_map(|rest| rest.split("</th>").next());
    let values: Vec<&str> = rows
        .filter_map(|row| row.strip_prefix("<code>")?.split("</code>").next())
        .filter(|value| !value.contains(['&', ' ']))
        .collect();
    assert!(values.len() > 10, "{values:?}");
    let cut: Vec<&&str> = values.iter().filter(|value| !squeezed.contains(**value)).collect();
    assert!(cut.is_empty(), "{cut:?}\n{text}");
}
