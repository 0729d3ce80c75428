package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rideFields are those that a ride's spans must have in a system, beside their ids.
var rideFields = []string{"trace id", "span id", "parent span id", "name", "kind", "start", "end", "status code", "status message",
	"event: name", "event: time", "resource: service.name", "scope: name"}

// attributesAsText are all attributes of a span, with their types gone.
func attributesAsText(f flat) any {
	all := make(map[string]string)
	for _, kv := range f.Span.Attributes {
		all[kv.Key] = plain(kv.Value)
	}
	return all
}

// TestRideInZipkinAndJaeger takes a ride with our hotrod, reads it back from Zipkin, which
// got it from a Collector, and from Jaeger, and compares each span with what hotrod
// printed of it. Zipkin's page is looked at as well.
func TestRideInZipkinAndJaeger(t *testing.T) {
	root := need(t, collector, zipkin, jaeger)
	shown := show(t, "a ride read back, span by span", "Jaeger "+jaegerVersion+", Collector "+collectorVersion+" to Zipkin "+zipkinVersion)
	z := startZipkin(t, root)
	c := startCollector(t, root, collector, toZipkinYAML, "ZIPKIN=http://"+z.addrs[0]+"/api/v2/spans")
	j := startJaeger(t, root)

	compared := []field{{"attributes", attributesAsText}}
	for _, f := range fields {
		if slices.Contains(rideFields, f.name) {
			compared = append(compared, f)
		}
	}
	if len(compared) != 1+len(rideFields) {
		t.Fatalf("%d fields are compared, want %d", len(compared), 1+len(rideFields))
	}

	toZipkin := rideOnce(t, root, "http://"+c.addrs[1], 1)
	traceID := toZipkin[0].Span.TraceID
	var spans []zipkinSpan
	eventually(t, 20*time.Second, func() string {
		if err := getJSON("http://"+z.addrs[0]+"/api/v2/trace/"+traceID, &spans); err != nil {
			return err.Error()
		}
		if len(spans) < len(toZipkin) {
			return fmt.Sprintf("Zipkin has %d of %d spans", len(spans), len(toZipkin))
		}
		return ""
	})
	var got []flat
	for _, s := range spans {
		f, err := s.flat()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	checkRide(t, "Zipkin", toZipkin, got, compared, func(name, kind string) bool {
		return kind == "kept" || kind == "to the µs" && (name == "start" || name == "end" || name == "event: time") || kind == "in lower case" && name == "name"
	})
	var services []string
	if err := getJSON("http://"+z.addrs[0]+"/api/v2/services", &services); err != nil {
		t.Fatal(err)
	}
	slices.Sort(services)
	if want := []string{"customer", "driver", "frontend", "mysql", "redis", "route"}; !slices.Equal(services, want) {
		t.Errorf("Zipkin's services are %v, want %v", services, want)
	}

	toJaeger := rideOnce(t, root, "http://"+j.addrs[1], 1)
	var inJaeger []flat
	eventually(t, 20*time.Second, func() string {
		body, err := get("http://" + j.addrs[2] + "/api/v3/traces/" + toJaeger[0].Span.TraceID)
		if err != nil {
			return err.Error()
		}
		if inJaeger, err = readJaeger(body); err != nil {
			return err.Error()
		}
		if len(inJaeger) < len(toJaeger) {
			return fmt.Sprintf("Jaeger has %d of %d spans", len(inJaeger), len(toJaeger))
		}
		return ""
	})
	checkRide(t, "Jaeger", toJaeger, inJaeger, compared, func(_, kind string) bool { return kind == "kept" })

	page := zipkinPage(t, root, "http://"+z.addrs[0]+"/zipkin/traces/"+traceID)
	for _, want := range append(services, traceID, "FindNearest") {
		if !strings.Contains(strings.ToLower(page), strings.ToLower(want)) {
			t.Errorf("Zipkin's page does not say %q", want)
		}
	}
	shown("%d spans in Zipkin, %d in Jaeger: ids, parents, names, kinds, times, status, events, services and every attribute agree; Zipkin's page names all six services",
		len(toZipkin), len(toJaeger))
}

// checkRide compares a ride field by field.
func checkRide(t *testing.T, where string, want, got []flat, fields []field, fine func(name, kind string) bool) {
	t.Helper()
	byID := make(map[string]flat)
	for _, f := range got {
		byID[f.Span.SpanID] = f
	}
	if len(got) != len(want) || len(byID) != len(want) {
		t.Errorf("%s has %d spans with %d ids, want %d", where, len(got), len(byID), len(want))
	}
	for _, f := range fields {
		var wants, gots []any
		for _, w := range want {
			g := byID[w.Span.SpanID]
			wanted, found := f.get(w), f.get(g)
			if f.name == "attributes" { // systems add attributes of their own
				all, kept := found.(map[string]string), make(map[string]string)
				for k := range wanted.(map[string]string) {
					if v, ok := all[k]; ok {
						kept[k] = v
					}
				}
				if !maps.EqualFunc(wanted.(map[string]string), kept, sameText) {
					t.Errorf("%s, span %s: the attributes are %v, want %v", where, w.Span.Name, kept, wanted)
				}
				continue
			}
			wants, gots = append(wants, wanted), append(gots, found)
		}
		if f.name == "attributes" || !slices.ContainsFunc(wants, func(v any) bool { return text(v) != "" }) {
			continue
		}
		if v := verdict(wants, gots); !fine(f.name, v) {
			t.Errorf("%s, %s: %s", where, f.name, v)
			for i, w := range want {
				if text(wants[i]) != text(gots[i]) {
					t.Logf("printed: %s\n%s: %s", w.canonical(), where, byID[w.Span.SpanID].canonical())
					break
				}
			}
		}
	}
}

// zipkinPage is Zipkin's page of a trace as Chromium has it, once it is drawn. The
// picture goes to /.out/zipkin.png of the repository.
func zipkinPage(t *testing.T, root, url string) string {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if os.Getenv("MESHTRACE_INTEROP") == "1" {
			t.Fatal("chromium is missing; on Debian: apt-get install chromium")
		}
		t.Skip("chromium is missing; on Debian: apt-get install chromium")
	}
	picture := filepath.Join(root, ".out", "zipkin.png")
	if err := os.MkdirAll(filepath.Dir(picture), 0o755); err != nil {
		t.Fatal(err)
	}
	browse := func(args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--user-data-dir=" + t.TempDir(), "--window-size=1400,1100", "--virtual-time-budget=15000"}, args...)
		cmd := exec.CommandContext(ctx, "chromium", append(args, url)...)
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("chromium: %v\n%.2000s", err, stderr.String())
		}
		return out.String()
	}
	browse("--screenshot=" + picture)
	if st, err := os.Stat(picture); err != nil || st.Size() < 10_000 {
		t.Errorf("the picture of Zipkin's page: %v, %v", st, err)
	}
	return browse("--dump-dom")
}
