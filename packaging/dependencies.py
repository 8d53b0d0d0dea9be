#!/usr/bin/env python3
"""Says what the program is made of.

    packaging/dependencies.py TRIPLE FOLDER

asks `cargo tree` what a build for TRIPLE takes in, and writes into FOLDER

- `renewd.cdx.json`: the bill of materials in CycloneDX 1.5, with licences and the checksums of
  Cargo.lock; it goes into the packages;
- `dep-v0`: the list that packaging/build.sh puts into the program itself, in the section and form of
  cargo-auditable (zlib over JSON), where cargo-audit, Trivy, Syft and others look for it.

Written by ourselves: cargo-auditable wraps the compiler, so the program would be compiled once more
wherever a package is built, and it asks `cargo metadata`, which names what no build takes in.
Neither file holds a time or a path, so the same sources give the same files.

Not here: whether they are right and in the package, which tests/package.sh asks.
"""

import json
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path


def main():
    triple, folder = sys.argv[1], Path(sys.argv[2])
    lines = tree(triple, "normal,build")
    # What macros and build scripts need runs while the program is built, and is not in it.
    running = {package for _, package, _ in tree(triple, "normal,no-proc-macro")}
    root = lines[0][1]
    edges, licences, above = {}, {}, []
    for depth, package, licence in lines:
        licences[package] = licence
        edges.setdefault(package, set())
        del above[depth:]
        if above:
            edges[above[-1]].add(package)
        above.append(package)
    packages = sorted(edges)

    lock = tomllib.loads(Path("Cargo.lock").read_text())["package"]
    checksums = {(it["name"], it["version"]): it.get("checksum") for it in lock}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(audit_list(packages, root, edges, running, checksums), separators=(",", ":"))
    (folder / "dep-v0").write_bytes(zlib.compress(text.encode(), 9))
    bill = bill_of_materials(packages, root, edges, running, checksums, licences)
    (folder / "renewd.cdx.json").write_text(json.dumps(bill, indent=1, ensure_ascii=False) + "\n")


def tree(triple, edges):
    """The lines of `cargo tree`: depth, (name, version), licence."""
    command = ["cargo", "tree", "--locked", "--edges", edges, "--target", triple]
    command += ["--prefix", "depth", "--format", "|{p}|{l}"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = []
    for line in printed.splitlines():
        depth, package, licence = line.split("|")
        name, version = package.split(" ")[:2]
        lines.append((int(depth), (name, version.removeprefix("v")), licence.removesuffix(" (*)")))
    return lines


def audit_list(packages, root, edges, running, checksums):
    place = {package: index for index, package in enumerate(packages)}
    entries = []
    for package in packages:
        name, version = package
        # deny.toml lets nothing in from elsewhere, and what is from there has a checksum.
        source = "crates.io" if checksums[package] else "local"
        entry = {"name": name, "version": version, "source": source}
        if package not in running:
            entry["kind"] = "build"
        if edges[package]:
            entry["dependencies"] = sorted(place[it] for it in edges[package])
        if package == root:
            entry["root"] = True
        entries.append(entry)
    return {"packages": entries}


def bill_of_materials(packages, root, edges, running, checksums, licences):
    def component(package, kind):
        entry = {"type": kind, "bom-ref": url(package), "name": package[0], "version": package[1]}
        entry["scope"] = "required" if package in running else "excluded"
        entry["purl"] = url(package)
        if checksums[package]:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksums[package]}]
        if licences[package]:
            # The slash is the old way to write OR.
            words = licences[package].replace("/", " OR ").split()
            entry["licenses"] = [{"expression": " ".join(words)}]
        return entry

    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root, "application")},
        "components": [component(it, "library") for it in packages if it != root],
        "dependencies": [
            {"ref": url(it), "dependsOn": sorted(url(to) for to in edges[it])} for it in packages
        ],
    }


def url(package):
    return f"pkg:cargo/{package[0]}@{package[1]}"


main()
