package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// comparison lets the exporters take turns.
type comparison struct {
	sending
	rounds int
	only   string
}

// run starts a receiver and prints the table.
func (c *comparison) run(ctx context.Context, stdout io.Writer) error {
	names := exporters
	if c.only != "" {
		names = append([]string{"none"}, strings.Split(c.only, ",")...)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	receiver := exec.CommandContext(ctx, self, "receive")
	receiver.Stderr = os.Stderr
	receiver.Cancel = func() error { return receiver.Process.Signal(syscall.SIGTERM) }
	receiver.WaitDelay = 5 * time.Second
	out, err := receiver.StdoutPipe()
	if err != nil {
		return err
	}
	if err := receiver.Start(); err != nil {
		return err
	}
	defer func() {
		_ = receiver.Process.Signal(syscall.SIGTERM)
		_ = receiver.Wait()
	}()
	var at addresses
	if err := json.NewDecoder(out).Decode(&at); err != nil {
		return fmt.Errorf("the receiver's addresses: %w", err)
	}

	all := make(map[string][]measured)
	for round := range c.rounds {
		for i := range names {
			name := names[(i+round)%len(names)] // nobody is always first
			args := append([]string{"send", "-exporter", name, "-otlp", at.OTLP, "-control", at.Control}, c.args()...)
			cmd := exec.CommandContext(ctx, self, args...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			b, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", name, err, stderr.String())
			}
			var m measured
			if err := json.Unmarshal(b, &m); err != nil {
				return err
			}
			all[name] = append(all[name], m)
		}
	}
	return c.print(stdout, names, all)
}

// median of one figure of all rounds.
func median[T cmp.Ordered](of []measured, get func(measured) T) T {
	var v []T
	for _, m := range of {
		v = append(v, get(m))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// cost is what a span costs beyond its creation, for each one that arrived.
func cost(of []measured, none time.Duration) time.Duration {
	return median(of, func(m measured) time.Duration {
		if m.Arrived.Unique == 0 {
			return 0
		}
		beyond := m.CPU - none*time.Duration(m.Ended)
		return beyond / time.Duration(m.Arrived.Unique)
	})
}

func (c *comparison) print(w io.Writer, names []string, all map[string][]measured) error {
	perSpan := func(m measured) time.Duration { return m.CPU / time.Duration(m.Ended) }
	none := median(all["none"], perSpan)
	stock := max(cost(all["stock-grpc"], none), 0)
	fmt.Fprintf(w, "%d spans of 10 attributes at %d a second, medians of %d; creating a span costs %d ns of CPU\n\n", c.n, c.rate, c.rounds, none.Nanoseconds())
	fmt.Fprintln(w, "| exporter | CPU a span that arrived, beyond creating it | ratio to stock-grpc | allocations a span, beyond | End p50, p99, p99.9, max | lost | twice | peak memory | requests |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
	baseAllocs := median(all["none"], func(m measured) float64 { return float64(m.Allocs) / float64(m.Ended) })
	var bad []string
	for _, name := range names {
		ms := all[name]
		ends := fmt.Sprintf("%d ns, %d ns, %s, %s", median(ms, func(m measured) time.Duration { return m.P50 }).Nanoseconds(),
			median(ms, func(m measured) time.Duration { return m.P99 }).Nanoseconds(),
			median(ms, func(m measured) time.Duration { return m.P999 }).Round(100*time.Nanosecond),
			median(ms, func(m measured) time.Duration { return m.Max }).Round(time.Microsecond))
		mem := fmt.Sprintf("%.0f MiB", median(ms, func(m measured) float64 { return m.PeakMiB }))
		if name == "none" {
			fmt.Fprintf(w, "| none | | | | %s | | | %s | |\n", ends, mem)
			continue
		}
		ratio := "-"
		beyond := cost(ms, none)
		if stock > 0 {
			ratio = fmt.Sprintf("%.2f", float64(beyond)/float64(stock))
		}
		lost := median(ms, func(m measured) float64 { return 100 * float64(m.Ended-m.Arrived.Unique) / float64(m.Ended) })
		fmt.Fprintf(w, "| %s | %d ns | %s | %.2f | %s | %.2f %% | %d | %s | %d |\n", name, beyond.Nanoseconds(), ratio,
			median(ms, func(m measured) float64 { return float64(m.Allocs) / float64(m.Ended) })-baseAllocs,
			ends, lost, median(ms, func(m measured) int { return m.Arrived.Twice }), mem, median(ms, func(m measured) int { return m.Arrived.Requests }))
		for i, m := range ms {
			if strings.HasPrefix(name, "meshtrace") && !m.Balanced {
				bad = append(bad, fmt.Sprintf("%s, round %d: the accounts and the ledger differ: %+v", name, i+1, m))
			}
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s", strings.Join(bad, "\n"))
	}
	return nil
}
