package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/tracetree"
)

// once takes the rides of -once, prints what the receiver got of them, and returns
// an error when something is missing or wrong.
func (a *app) once(ctx context.Context) error {
	rides, rideErr := a.takeRides(ctx)
	sum := a.stop()
	if a.tel.disabled() {
		fmt.Fprintf(a.out, "hotrod: rides=%d, no spans: %s\n", len(rides), a.tel.describe())
		return rideErr
	}

	var spans []otlpwire.Span
	for request := range a.tel.receiver.store.OTLP() {
		more, err := otlpwire.Decode(request)
		if err != nil {
			return errors.Join(rideErr, fmt.Errorf("reading what the receiver got: %w", err))
		}
		spans = append(spans, more...)
	}
	traces := tracetree.Build(spans)

	report := a.out
	if a.opt.json {
		report = a.errOut
		if err := a.printJSON(); err != nil {
			return errors.Join(rideErr, err)
		}
	} else {
		for _, t := range traces {
			if err := t.Print(a.out); err != nil {
				return errors.Join(rideErr, err)
			}
		}
	}
	printSummary(report, traces, sum)
	return errors.Join(rideErr, check(rides, traces, sum))
}

// takeRides takes -rides rides, one after another, each for the next customer.
func (a *app) takeRides(ctx context.Context) ([]ride, error) {
	client := &http.Client{Timeout: 2 * rideTimeout}
	defer client.CloseIdleConnections()
	customers := []string{"123", "392", "567", "731"}
	frontend := a.servers[len(a.servers)-1].addr

	var rides []ride
	for i := range a.opt.rides {
		url := "http://" + frontend + "/dispatch?customer=" + customers[i%len(customers)]
		r, err := takeRide(ctx, client, url)
		if err != nil {
			return rides, fmt.Errorf("ride %d: %w", i+1, err)
		}
		rides = append(rides, r)
	}
	return rides, nil
}

func takeRide(ctx context.Context, client *http.Client, url string) (r ride, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return r, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK {
		return r, fmt.Errorf("%s: %s", resp.Status, r.Error)
	}
	return r, nil
}

// printJSON prints what arrived, one OTLP request a line.
func (a *app) printJSON() error {
	for request := range a.tel.receiver.store.OTLP() {
		line, err := otlpwire.AppendJSON(nil, request)
		if err != nil {
			return err
		}
		if _, err := a.out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// printSummary prints one line: services and depth of the poorest trace, and the sum
// of the rest. A collector outside has a line of its own.
func printSummary(w io.Writer, traces []*tracetree.Trace, sum accounts) {
	var services, spans, depth, errs, orphans int
	for i, t := range traces {
		if i == 0 || len(t.Services) < services {
			services = len(t.Services)
		}
		if i == 0 || t.Depth < depth {
			depth = t.Depth
		}
		spans += t.Spans
		errs += t.Errors
		orphans += t.Orphans
	}
	fmt.Fprintf(w, "services=%d spans=%d depth=%d errors=%d orphans=%d ended=%d delivered=%d\n",
		services, spans, depth, errs, orphans, sum.builtin.ended, sum.builtin.delivered)
	if sum.hasCollector {
		fmt.Fprintln(w, sum.collectorLine())
	}
}

// check returns everything that is not as it should be.
func check(rides []ride, traces []*tracetree.Trace, sum accounts) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	wanted := make(map[string]bool)
	for i, r := range rides {
		if r.TraceID == "" {
			bad("ride %d was not traced: sampling is switched down, perhaps by OTEL_TRACES_SAMPLER", i+1)
			continue
		}
		wanted[r.TraceID] = true
	}
	received := 0
	for _, t := range traces {
		id := t.ID.String()
		if !wanted[id] {
			bad("trace %s belongs to no ride", id)
		}
		delete(wanted, id)
		received += t.Spans
		for _, s := range services() {
			if !slices.Contains(t.Services, s) {
				bad("trace %s has no span of %s", id, s)
			}
		}
		for n := range t.Walk() {
			if n.Orphan {
				bad("trace %s: span %s of %s is an orphan", id, n.Name, n.Service())
			}
			if n.Failed() && n.Service() != "redis" {
				bad("trace %s: span %s of %s has an error", id, n.Name, n.Service())
			}
		}
	}
	for id := range wanted {
		bad("trace %s did not arrive", id)
	}
	if b := sum.builtin; b.ended != b.delivered || uint64(received) != b.ended {
		bad("%d spans ended, %d were delivered, %d arrived: %s", b.ended, b.delivered, received, b.why)
	}
	return errors.Join(errs...)
}
