package envsampler

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshtrace/meshtrace/internal/otelenv"
)

func TestFromEnv(t *testing.T) {
	const (
		on     = "ParentBased{root:AlwaysOnSampler,remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"
		unset  = ""
		absent = "\x00"
	)
	names := "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio"
	long := strings.Repeat("1", otelenv.MaxLen+1)
	for _, c := range []struct {
		name, arg string
		want      string // the sampler's Description; "" is none
		problem   string
	}{
		{absent, absent, unset, ""},
		{"", absent, unset, ""},
		{"  ", "7", unset, ""}, // an argument without a sampler is not looked at
		{"always_on", absent, "AlwaysOnSampler", ""},
		{" Always_ON ", absent, "AlwaysOnSampler", ""},
		{"always_on", "nonsense", "AlwaysOnSampler", ""}, // takes no argument
		{"always_off", absent, "AlwaysOffSampler", ""},
		{"traceidratio", absent, "TraceIDRatioBased{1}", ""},
		{"traceidratio", "", "TraceIDRatioBased{1}", ""},
		{"traceidratio", "0.25", "TraceIDRatioBased{0.25}", ""},
		{"traceidratio", " 1e-3 ", "TraceIDRatioBased{0.001}", ""},
		{"traceidratio", "0", "TraceIDRatioBased{0}", ""},
		{"traceidratio", "1", "TraceIDRatioBased{1}", ""},
		{"parentbased_always_on", absent, on, ""},
		{"parentbased_always_off", absent, strings.Replace(on, "root:AlwaysOnSampler", "root:AlwaysOffSampler", 1), ""},
		{"parentbased_traceidratio", "0.5", strings.Replace(on, "root:AlwaysOnSampler", "root:TraceIDRatioBased{0.5}", 1), ""},
		{"parentbased_traceidratio", absent, strings.Replace(on, "root:AlwaysOnSampler", "root:TraceIDRatioBased{1}", 1), ""},
		{"alwayson", absent, unset, `OTEL_TRACES_SAMPLER="alwayson" counts as unset: allowed is ` + names},
		{"jaeger_remote", "endpoint=http://x", unset, `OTEL_TRACES_SAMPLER="jaeger_remote" counts as unset: allowed is ` + names},
		{"parentbased_jaeger_remote", absent, unset, `OTEL_TRACES_SAMPLER="parentbased_jaeger_remote" counts as unset: allowed is ` + names},
		{"xray", absent, unset, `OTEL_TRACES_SAMPLER="xray" counts as unset: allowed is ` + names},
		{"traceidratio", "1.1", unset, `OTEL_TRACES_SAMPLER_ARG="1.1" counts as unset: allowed is a number from 0 to 1`},
		{"traceidratio", "-0.1", unset, `OTEL_TRACES_SAMPLER_ARG="-0.1" counts as unset: allowed is a number from 0 to 1`},
		{"traceidratio", "10%", unset, `OTEL_TRACES_SAMPLER_ARG="10%" counts as unset: allowed is a number from 0 to 1`},
		{"traceidratio", "0,5", unset, `OTEL_TRACES_SAMPLER_ARG="0,5" counts as unset: allowed is a number from 0 to 1`},
		{"parentbased_traceidratio", "NaN", unset, `OTEL_TRACES_SAMPLER_ARG="NaN" counts as unset: allowed is a number from 0 to 1`},
		{"parentbased_traceidratio", "inf", unset, `OTEL_TRACES_SAMPLER_ARG="inf" counts as unset: allowed is a number from 0 to 1`},
		{"traceidratio", long, unset, `OTEL_TRACES_SAMPLER_ARG="` + long[:80] + `…" counts as unset: allowed is at most 65536 bytes`},
	} {
		env := otelenv.New(func(name string) string {
			v := map[string]string{Name: c.name, Arg: c.arg}[name]
			if v == absent {
				return ""
			}
			return v
		})
		base, ok := FromEnv(env)
		got := ""
		if ok {
			got = base.Description()
		} else if base != nil {
			t.Errorf("FromEnv(%q, %.20q) = %v, false", c.name, c.arg, base)
		}
		if got != c.want {
			t.Errorf("FromEnv(%q, %.20q) = %q, want %q", c.name, c.arg, got, c.want)
		}
		var problems, want []string
		for _, p := range env.Problems() {
			problems = append(problems, p.Error())
		}
		if c.problem != "" {
			want = []string{c.problem}
		}
		if d := cmp.Diff(want, problems); d != "" {
			t.Errorf("FromEnv(%q, %.20q) problems (-want +got):\n%s", c.name, c.arg, d)
		}
	}
}

func FuzzFromEnv(f *testing.F) {
	f.Fuzz(func(t *testing.T, name, arg string) {
		env := otelenv.New(func(n string) string { return map[string]string{Name: name, Arg: arg}[n] })
		base, ok := FromEnv(env)
		unset := strings.TrimSpace(name) == "" && len(name) <= otelenv.MaxLen
		switch {
		case ok == (base == nil), ok && len(env.Problems()) > 0, !ok && unset != (len(env.Problems()) == 0):
			t.Fatalf("FromEnv = %v, %v, problems %v", base, ok, env.Problems())
		case ok && strings.Contains(base.Description(), "TraceIDRatioBased{1}"):
			// Everything is sampled only where that was said.
			if a := strings.TrimSpace(arg); a != "" {
				if r, err := strconv.ParseFloat(a, 64); err != nil || r != 1 {
					t.Fatalf("%s=%q, %s=%q samples everything", Name, name, Arg, arg)
				}
			}
		}
	})
}
