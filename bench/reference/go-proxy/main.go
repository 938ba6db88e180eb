// What Go's own reverse proxy needs for a call: httputil.ReverseProxy on one processor, with connections that are kept.
//
//	proxy PORT ORIGIN CONNECTIONS HEADERS [SOCKET]; ends when its standard input does
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"time"
)

func main() {
	runtime.GOMAXPROCS(1)
	origin, err := url.Parse(os.Args[2])
	failOn(err)
	connections, err := strconv.Atoi(os.Args[3])
	failOn(err)
	var headers []string
	failOn(json.Unmarshal([]byte(os.Args[4]), &headers))

	transport := &http.Transport{MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute, DisableCompression: true}
	if len(os.Args) > 5 {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", os.Args[5])
		}
	}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(request *httputil.ProxyRequest) {
		request.SetURL(origin)
		for at := 0; at+1 < len(headers); at += 2 {
			request.Out.Header.Set(headers[at], headers[at+1])
		}
	}}

	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	failOn(http.ListenAndServe("127.0.0.1:"+os.Args[1], proxy))
}

func failOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
