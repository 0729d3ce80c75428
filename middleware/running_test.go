package middleware

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestDebugRunning: a long call is on the page while it runs, with its age.
func TestDebugRunning(t *testing.T) {
	tracing, err := Setup(t.Context(), Config{
		Service: "long", Logger: slog.New(slog.DiscardHandler),
		Getenv: func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name] },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Shutdown(t.Context())
	page := tracing.DebugHandler()
	release := make(chan struct{})
	srv := httptest.NewServer(tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		<-release
	})))
	defer srv.Close()
	begun := time.Now()
	req, _ := http.NewRequest("GET", srv.URL+"/events", nil)
	req.Header.Set("X-Request-Id", "125a4afb-6f55-94ba-ad80-413f09f48a28")
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	status := getJSON[statusJSON](t, page, "/api/status", 200).Programs[0]
	if status.Underway != 1 || len(status.Running) != 1 {
		t.Fatalf("%d calls under way, %d shown, want 1", status.Underway, len(status.Running))
	}
	got := status.Running[0]
	if got.Name != "GET" || got.Kind != "SERVER" || got.Target != "/events" || got.RequestID != "125a4afb-6f55-94ba-ad80-413f09f48a28" || len(got.TraceID) != 32 || len(got.SpanID) != 16 {
		t.Errorf("the call under way is %+v", got)
	}
	if since := got.Start - float64(begun.UnixMilli()); since < -1 || since > 60_000 {
		t.Errorf("it began %v ms after the request was sent", since)
	}
	type missing struct {
		Error    string
		Underway bool
	}
	for id, want := range map[string]bool{got.TraceID: true, "0af7651916cd43dd8448eb211c80319c": false} {
		if none := getJSON[missing](t, page, "/api/trace?id="+id, 404); none.Underway != want || none.Error == "" {
			t.Errorf("trace %s, of which no span has ended: %+v, want under way: %v", id, none, want)
		}
	}
	close(release)
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		status = getJSON[statusJSON](t, page, "/api/status", 200).Programs[0]
		if status.Underway == 0 && len(status.Running) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d calls under way after the last one ended", status.Underway)
		}
	}
}
