package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// samples are what benchmarks printed, run by run.
type samples struct {
	cpu       string
	scenarios []string                                   // in the order in which they came
	libraries map[string][]string                        // of a scenario, likewise
	values    map[string]map[string]map[string][]float64 // by scenario, library, unit
}

// suffix is GOMAXPROCS behind a benchmark's name.
var suffix = regexp.MustCompile(`-\d+$`)

// add reads the output of one run: lines of a name, a count, and pairs of value and unit.
func (s *samples) add(out string) error {
	for line := range strings.Lines(out) {
		if cpu, ok := strings.CutPrefix(line, "cpu: "); ok {
			s.cpu = strings.TrimSpace(cpu)
		}
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := suffix.ReplaceAllString(strings.TrimPrefix(f[0], "Benchmark"), "")
		at := strings.LastIndexByte(name, '/')
		if at < 0 {
			return fmt.Errorf("%s has no library", f[0])
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return fmt.Errorf("%s: %w", f[0], err)
			}
			s.put(name[:at], name[at+1:], f[i+1], v)
		}
	}
	return nil
}

func (s *samples) put(scenario, library, unit string, v float64) {
	if s.values == nil {
		s.values = map[string]map[string]map[string][]float64{}
		s.libraries = map[string][]string{}
	}
	if s.values[scenario] == nil {
		s.values[scenario] = map[string]map[string][]float64{}
		s.scenarios = append(s.scenarios, scenario)
	}
	if s.values[scenario][library] == nil {
		s.values[scenario][library] = map[string][]float64{}
		s.libraries[scenario] = append(s.libraries[scenario], library)
	}
	s.values[scenario][library][unit] = append(s.values[scenario][library][unit], v)
}

// quantile returns the value that part q of list is below; list is not empty.
func quantile(list []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func median(list []float64) float64 { return quantile(list, 0.5) }

// ratios returns, run by run, what ours costs of what beside costs, over taken off both.
// Runs in which beside costs nothing are left out.
func ratios(ours, beside, over []float64) []float64 {
	var list []float64
	for i := range min(len(ours), len(beside)) {
		o, b := ours[i], beside[i]
		if i < len(over) {
			o, b = o-over[i], b-over[i]
		}
		if b > 0 {
			list = append(list, o/b)
		}
	}
	return list
}

// goalTable returns the rows of goals that have been measured. A goal that is missed
// stays in it.
func (s *samples) goalTable(goals []goal) string {
	var b strings.Builder
	b.WriteString("| what | meshtrace | beside | ratio | goal | met |\n|---|---|---|---|---|---|\n")
	for _, g := range goals {
		if row := s.goalRow(g); row != "" {
			b.WriteString(row)
		}
	}
	return b.String()
}

func (s *samples) goalRow(g goal) string {
	metric := g.metric
	if metric == "" {
		metric = "cpu-ns/op"
	}
	of := func(library, unit string) []float64 { return s.values[g.bench][library][unit] }
	ours, beside, over := of(g.ours, metric), of(g.beside, metric), of(g.over, metric)
	if len(ours) == 0 || g.beside != "" && len(beside) == 0 {
		return ""
	}
	// cost is what a library costs beyond over, and how many allocations.
	cost := func(library string) (v, allocs float64) {
		v, allocs = median(of(library, metric)), -1
		if a := of(library, "allocs/op"); len(a) > 0 {
			allocs = median(a)
		}
		if g.over != "" {
			v -= median(over)
			if a := of(g.over, "allocs/op"); len(a) > 0 {
				allocs = max(0, allocs-median(a))
			}
		}
		return v, allocs
	}
	v, allocs := cost(g.ours)
	met := true
	var parts []string
	ratio, other := "", ""
	if g.beside != "" {
		r := median(ratios(ours, beside, over))
		met = r <= g.ratio
		ratio = fmt.Sprintf("%.2f", r)
		parts = append(parts, fmt.Sprintf("≤ %.2f", g.ratio))
		bv, ba := cost(g.beside)
		other = g.beside + " " + quantity(bv, metric, ba)
	}
	if g.max > 0 {
		met = met && v <= g.max
		parts = append(parts, fmt.Sprintf("≤ %.0f %s", g.max, g.unit))
	}
	if g.allocs != noLimit {
		met = met && allocs <= float64(g.allocs)
		parts = append(parts, "≤ "+plural(float64(g.allocs)))
	}
	answer := "yes"
	if !met {
		answer = "**no**"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", g.what, quantity(v, metric, allocs), other, ratio, strings.Join(parts, ", "), answer)
}

// quantity writes a cost with its allocations; -1 are unknown.
func quantity(v float64, metric string, allocs float64) string {
	text := duration(v)
	if metric == "bytes" {
		text = fmt.Sprintf("%.1f MB", v/1e6)
	}
	if metric == "bytes" || allocs < 0 {
		return text
	}
	return text + ", " + plural(allocs)
}

func plural(n float64) string {
	if n == 1 {
		return "1 alloc"
	}
	return fmt.Sprintf("%.0f allocs", n)
}

// duration writes nanoseconds with three digits that count.
func duration(ns float64) string {
	switch {
	case ns < 10:
		return fmt.Sprintf("%.1f ns", ns)
	case ns < 1e3:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e4:
		return fmt.Sprintf("%.2f µs", ns/1e3)
	case ns < 1e6:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	}
	return fmt.Sprintf("%.2f ms", ns/1e6)
}

// table returns every scenario and library.
func (s *samples) table() string {
	var b strings.Builder
	b.WriteString("| scenario | library | CPU | spread | elapsed | bytes | allocations |\n|---|---|---|---|---|---|---|\n")
	for _, scenario := range s.scenarios {
		for i, library := range s.libraries[scenario] {
			v := s.values[scenario][library]
			name := ""
			if i == 0 {
				name = scenario
			}
			if size := v["bytes"]; len(size) > 0 {
				fmt.Fprintf(&b, "| %s | %s | | | | %.2f MB | |\n", name, library, median(size)/1e6)
				continue
			}
			number := func(unit string, write func(float64) string) string {
				if len(v[unit]) == 0 {
					return ""
				}
				return write(median(v[unit]))
			}
			whole := func(n float64) string { return strconv.FormatFloat(n, 'f', 0, 64) }
			spread := ""
			if c := v["cpu-ns/op"]; len(c) > 0 {
				spread = fmt.Sprintf("%s to %s", duration(quantile(c, 0.25)), duration(quantile(c, 0.75)))
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", name, library, number("cpu-ns/op", duration), spread,
				number("ns/op", duration), number("B/op", whole), number("allocs/op", whole))
		}
	}
	return b.String()
}
