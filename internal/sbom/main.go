// Command sbom checks the CycloneDX SBOM that cyclonedx-gomod wrote, and writes it without what differs from machine to machine.
//
//	sbom MODULE@VERSION... <in >out
//
// It fails where one of the modules is not in it. scripts/sbom runs it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// bom is what is checked of an SBOM: https://cyclonedx.org/docs/1.6/json/
type bom struct {
	Format     string      `json:"bomFormat"`
	Spec       string      `json:"specVersion"`
	Serial     string      `json:"serialNumber"`
	Metadata   metadata    `json:"metadata"`
	Components []component `json:"components"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	PURL     string `json:"purl"`
	Hashes   []any  `json:"hashes"`
	Evidence struct {
		Licenses []any `json:"licenses"`
	} `json:"evidence"`
}

func run(modules []string, in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var b bom
	if err := json.Unmarshal(text, &b); err != nil {
		return fmt.Errorf("not an SBOM: %w", err)
	}
	if err := errors.Join(b.check(), b.names(modules)); err != nil {
		return err
	}
	return write(text, out)
}

// check says what every SBOM of ours must have.
func (b bom) check() error {
	switch {
	case b.Format != "CycloneDX" || b.Spec == "":
		return fmt.Errorf("not a CycloneDX document: bomFormat %q, specVersion %q", b.Format, b.Spec)
	case b.Serial != "" || b.Metadata.Timestamp != "":
		return errors.New("it has a serial number or a time, which are others each time")
	case b.Metadata.Component.Name != "github.com/dreamscape/eventbus":
		return fmt.Errorf("it is about %q", b.Metadata.Component.Name)
	}
	var errs []error
	for _, c := range b.Components {
		if c.Version == "" || c.PURL == "" || len(c.Hashes) == 0 || len(c.Evidence.Licenses) == 0 {
			errs = append(errs, fmt.Errorf("%s: version, purl, hash or license is missing", c.Name))
		}
	}
	return errors.Join(errs...)
}

// names says which modules are missing.
func (b bom) names(modules []string) error {
	if len(modules) == 0 {
		return errors.New("no module to look for was named")
	}
	there := map[string]bool{}
	for _, c := range b.Components {
		there[c.Name+"@"+c.Version] = true
	}
	var errs []error
	for _, m := range modules {
		if !there[m] {
			errs = append(errs, fmt.Errorf("%s is missing", m))
		}
	}
	return errors.Join(errs...)
}

// write leaves out the hashes of the tool, which are of the program as this machine's Go built it.
func write(text []byte, out io.Writer) error {
	var all struct {
		Metadata struct {
			Tools []map[string]any `json:"tools"`
		} `json:"metadata"`
	}
	document := map[string]any{}
	if err := errors.Join(json.Unmarshal(text, &all), json.Unmarshal(text, &document)); err != nil {
		return err
	}
	for _, tool := range all.Metadata.Tools {
		delete(tool, "hashes")
	}
	if meta, ok := document["metadata"].(map[string]any); ok {
		meta["tools"] = all.Metadata.Tools
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(document)
}
