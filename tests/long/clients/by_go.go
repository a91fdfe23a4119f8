// GETs URLs through a proxy with Go's net/http. The proxy's password is in its URL.
//
// Environment: URL (one or more, with spaces between), PROXY (left out: none), CA, and for a client certificate CERT and KEY. The bodies go to stdout.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

func main() {
	if err := get(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func get() error {
	pem, err := os.ReadFile(os.Getenv("CA"))
	if err != nil {
		return err
	}
	// One configuration serves both: TLS to the proxy and TLS to the target.
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(pem)
	if certificate := os.Getenv("CERT"); certificate != "" {
		own, err := tls.LoadX509KeyPair(certificate, os.Getenv("KEY"))
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{own}
	}
	transport := &http.Transport{TLSClientConfig: config}
	if named := os.Getenv("PROXY"); named != "" {
		proxy, err := url.Parse(named)
		if err != nil {
			return err
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	client := &http.Client{Timeout: time.Minute, Transport: transport}
	for _, address := range strings.Fields(os.Getenv("URL")) {
		if err := fetch(client, address); err != nil {
			return err
		}
	}
	return nil
}

func fetch(client *http.Client, address string) error {
	answer, err := client.Get(address)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}
