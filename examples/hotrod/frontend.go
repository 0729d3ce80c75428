package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshtrace/meshtrace/examples/hotrod/driverpb"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
	"github.com/meshtrace/meshtrace/requestid"
)

const (
	rideTimeout  = 20 * time.Second
	routesAtOnce = 3
	maxAnswer    = 64 << 10 // bytes of an answer of another service
	maxSession   = 32       // bytes of the session that a page names
)

// frontend answers the page, and makes a ride out of the other services' answers.
type frontend struct {
	log    *slog.Logger
	peers  peers
	client *http.Client
	driver driverpb.DriverClient
	rides  atomic.Uint64
}

// newFrontend returns the frontend: GET /dispatch?customer=ID, the page, and the
// debug page. The io.Closer ends its connection to the driver service.
func newFrontend(ctx context.Context, tel *telemetry, p peers) (http.Handler, io.Closer, error) {
	tracing, err := tel.Setup(ctx, middleware.Config{Service: "frontend"})
	if err != nil {
		return nil, nil, err
	}
	conn, err := grpc.NewClient(p.driver, append(tracegrpc.DialOptions(tracing),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, nil, err
	}
	f := &frontend{
		log:    tel.log.With("service", "frontend"),
		peers:  p,
		client: &http.Client{Transport: tracing.Transport(nil)},
		driver: driverpb.NewDriverClient(conn),
	}

	api := http.NewServeMux()
	api.HandleFunc("GET /dispatch", f.dispatch)

	mux := http.NewServeMux()
	mux.Handle("/dispatch", tracing.Handler(api))
	mux.Handle("/debug/", http.StripPrefix("/debug", tel.debugPage(tracing)))
	mux.Handle("/", newPage())
	return mux, conn, nil
}

// ride is the answer of GET /dispatch.
type ride struct {
	Customer   string `json:"customer,omitempty"` // the name
	Driver     string `json:"driver,omitempty"`   // the licence plate
	ETAMinutes int    `json:"eta_minutes,omitempty"`
	LatencyMS  int64  `json:"latency_ms"`
	Error      string `json:"error,omitempty"`
	TraceID    string `json:"trace_id,omitempty"` // none when the ride is not traced
	RequestID  string `json:"request_id,omitempty"`
}

// dispatch answers GET /dispatch?customer=ID[&session=NAME].
func (f *frontend) dispatch(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), rideTimeout)
	defer cancel()
	query := r.URL.Query()

	code := http.StatusOK
	got, err := f.ride(ctx, query.Get("customer"), query.Get("session"))
	if err != nil {
		code, got.Error = explain(ctx, err)
		f.log.ErrorContext(ctx, "no ride", "error", err)
	}
	got.LatencyMS = time.Since(start).Milliseconds()
	got.RequestID = string(requestid.FromContext(ctx))
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		got.TraceID = sc.TraceID().String()
	}
	reply(w, code, got)
}

// ride finds the driver who is there first.
func (f *frontend) ride(ctx context.Context, customerID, session string) (ride, error) {
	if !isCustomerID(customerID) {
		return ride{}, &problem{http.StatusBadRequest, "A customer is a number of 1 to 9 digits, as in /dispatch?customer=123."}
	}
	ctx, err := f.label(ctx, customerID, session)
	if err != nil {
		return ride{}, err
	}
	f.log.InfoContext(ctx, "a ride is wanted", "customer", customerID)

	var c customer
	if err := f.get(ctx, f.peers.customer, "/customers/"+customerID, nil, &c); err != nil {
		return ride{}, err
	}
	near, err := f.driver.FindNearest(ctx, &driverpb.FindNearestRequest{Location: c.Location})
	if err != nil {
		return ride{}, fmt.Errorf("asking for drivers: %w", err)
	}
	best, err := f.shortest(ctx, near.GetCandidates(), c.Location)
	if err != nil {
		return ride{}, err
	}
	best.Customer = c.Name
	f.log.InfoContext(ctx, "a driver is on the way", "driver", best.Driver, "minutes", best.ETAMinutes)
	return best, nil
}

// label puts into the baggage what every service of this ride may want to know.
func (f *frontend) label(ctx context.Context, customerID, session string) (context.Context, error) {
	if session == "" || len(session) > maxSession {
		session = strconv.Itoa(1000 + rand.IntN(9000))
	}
	bag := baggage.FromContext(ctx)
	for _, kv := range [][2]string{
		{"customer", customerID},
		{"session", session},
		{"request", session + "-" + strconv.FormatUint(f.rides.Add(1), 10)},
	} {
		m, err := baggage.NewMemberRaw(kv[0], kv[1])
		if err != nil {
			return ctx, &problem{http.StatusBadRequest, "A session is text."}
		}
		if bag, err = bag.SetMember(m); err != nil {
			return ctx, err
		}
	}
	return baggage.ContextWithBaggage(ctx, bag), nil
}

// shortest asks for the route of each candidate, three at a time. A route that is
// not to be had is left out.
func (f *frontend) shortest(ctx context.Context, candidates []*driverpb.Candidate, to string) (ride, error) {
	routes := make([]route, len(candidates))
	errs := make([]error, len(candidates))
	slots := make(chan struct{}, routesAtOnce)
	var wg sync.WaitGroup
	for i, c := range candidates {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = f.get(ctx, f.peers.route, "/route", url.Values{"pickup": {c.GetLocation()}, "dropoff": {to}}, &routes[i])
		})
	}
	wg.Wait()

	var best ride
	for i, c := range candidates {
		if errs[i] == nil && (best.Driver == "" || routes[i].Minutes < best.ETAMinutes) {
			best.Driver, best.ETAMinutes = c.GetDriver(), routes[i].Minutes
		}
	}
	if best.Driver == "" {
		return ride{}, errors.Join(append(errs, errors.New("no driver can come"))...)
	}
	return best, nil
}

// get asks another service and reads its JSON answer into v.
func (f *frontend) get(ctx context.Context, addr, path string, query url.Values, v any) error {
	u := url.URL{Scheme: "http", Host: addr, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", path, err)
	}
	if resp.StatusCode == http.StatusOK {
		return json.Unmarshal(body, v)
	}
	var said struct{ Error string }
	if resp.StatusCode == http.StatusNotFound && json.Unmarshal(body, &said) == nil && said.Error != "" {
		return &problem{http.StatusNotFound, said.Error}
	}
	return fmt.Errorf("%s answered %s: %.200q", path, resp.Status, body)
}

// problem is an error that a person can act on.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

// explain returns the status and the text for whoever wanted the ride.
func explain(ctx context.Context, err error) (status int, text string) {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p.status, p.text
	case errors.Is(ctx.Err(), context.DeadlineExceeded): // err may be gRPC's word for it
		return http.StatusGatewayTimeout, "No driver was found in time. Please try again."
	}
	return http.StatusBadGateway, "The ride could not be arranged. Please try again."
}

// reply writes v as JSON.
func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// fail writes an error as JSON.
func fail(w http.ResponseWriter, status int, text string) {
	reply(w, status, map[string]string{"error": text})
}
