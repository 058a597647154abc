use super::newest;

fn pick(names: &[&str], series: &str) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    newest(&names, series).map(str::to_owned)
}

#[test]
fn numbers_are_compared_as_numbers() {
    let names = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
    assert_eq!(pick(&names, "6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
}

#[test]
fn a_series_is_not_a_prefix_of_another() {
    let names = ["linux-image-6.12.117+deb12-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
    assert_eq!(pick(&names, "6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
    assert_eq!(pick(&names, "6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
    assert_eq!(pick(&names, "6.2"), None);
}

#[test]
fn debug_symbols_and_other_flavours_are_not_kernels_to_boot() {
    let names =
        ["linux-image-6.1.0-57-cloud-amd64-dbg", "linux-image-6.1.0-58-amd64", "linux-image-6.1.0-56-cloud-amd64"];
    assert_eq!(pick(&names, "6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
}

#[test]
fn the_split_package_and_the_signed_one_are_preferred() {
    let names = ["linux-image-7.3.4+deb13-cloud-amd64", "linux-binary-7.3.4+deb13-cloud-amd64"];
    assert_eq!(pick(&names, "7.3").as_deref(), Some("linux-binary-7.3.4+deb13-cloud-amd64"));
    let names = ["linux-image-6.1.0-56-cloud-amd64-unsigned", "linux-image-6.1.0-56-cloud-amd64"];
    assert_eq!(pick(&names, "6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
}
