package exporter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/internal/collectortest"
)

// Fresh headers go with each request and win over Config.Headers; the function is not
// asked twice in a second.
func TestHeaderFunc(t *testing.T) {
	overAll(t, func(t *testing.T, p Protocol) {
		var asked atomic.Int64
		c := collectortest.Start(t)
		e := start(t, Config{
			Endpoint: c.URL(), Protocol: p, Headers: map[string]string{"authorization": "old", "x-tenant": "t"},
			HeaderFunc: func(ctx context.Context) (map[string]string, error) {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("the context has no deadline")
				}
				return map[string]string{"authorization": fmt.Sprint("token ", asked.Add(1))}, nil
			},
		})
		for n := range 3 {
			end(e, n, n+1)
			if err := e.ForceFlush(withTimeout(t, time.Minute)); err != nil {
				t.Error(err)
			}
			if n == 1 {
				time.Sleep(askEvery)
			}
		}
		all(t, e, c, 3)
		if n := asked.Load(); n < 2 || n > 3 {
			t.Errorf("asked %d times, want 2", n)
		}
		for i, r := range c.Requests() {
			if r.Header.Get("X-Tenant") != "t" || !strings.HasPrefix(r.Header.Get("Authorization"), "token ") || len(r.Header["Authorization"]) != 1 {
				t.Errorf("request %d has %v", i, r.Header)
			}
		}
	})
}

// While there are no headers the spans are kept, and one line says so.
func TestHeaderFuncFails(t *testing.T) {
	for name, tt := range map[string]struct {
		fail func() (map[string]string, error)
		line string
	}{
		"error":       {func() (map[string]string, error) { return nil, errors.New("no token") }, "exporter: Config.HeaderFunc fails: no token: spans are kept until it gives headers"},
		"panic":       {func() (map[string]string, error) { panic("s3cret") }, "exporter: Config.HeaderFunc panicked: s3cret"},
		"reserved":    {func() (map[string]string, error) { return map[string]string{"Host": "x"}, nil }, `exporter: Config.HeaderFunc gives a header that cannot be sent: "Host": a header that the protocol sets itself: spans are kept until it gives headers`},
		"line breaks": {func() (map[string]string, error) { return map[string]string{"a": "b\r\nc: d"}, nil }, `exporter: Config.HeaderFunc gives a header that cannot be sent: "a": a value with control characters: spans are kept until it gives headers`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var broken atomic.Bool
			broken.Store(true)
			c := collectortest.Start(t)
			e := start(t, Config{Endpoint: c.URL(), Protocol: HTTPProtobuf, HeaderFunc: func(context.Context) (map[string]string, error) {
				if broken.Load() {
					return tt.fail()
				}
				return nil, nil
			}})
			end(e, 0, 5)
			for len(logged(e)) == 0 {
				time.Sleep(time.Millisecond)
			}
			if st := e.Stats(); st.Kept.Memory != 5 || len(c.Requests()) != 0 {
				t.Errorf("kept %v, %d requests", st.Kept, len(c.Requests()))
			}
			broken.Store(false)
			c.Wait(5)
			st := all(t, e, c, 5)
			if l := logged(e); l[0] != tt.line || (name == "panic") != (st.Panics > 0) {
				t.Errorf("lines %q, want %q; %d panics", l, tt.line, st.Panics)
			}
		})
	}
}
