// GETs URLs through a proxy with .NET's HttpClient. It sends the proxy's password only when asked, as .NET does.
//
// Environment: URL (one or more, with spaces between), PROXY. The bodies go to stdout. The target's certificate is not
// verified: this program is run for what it says to the proxy.
using System;
using System.Net;
using System.Net.Http;

public static class ByNet {
    public static int Main() {
        ServicePointManager.ServerCertificateValidationCallback = (sender, certificate, chain, errors) => true;
        var uri = new Uri(Environment.GetEnvironmentVariable("PROXY"));
        var proxy = new WebProxy(uri.Scheme + "://" + uri.Authority);
        var pair = uri.UserInfo.Split(new[] { ':' }, 2);
        if (pair.Length == 2) proxy.Credentials = new NetworkCredential(pair[0], pair[1]);
        var handler = new HttpClientHandler { Proxy = proxy, UseProxy = true };
        try { handler.ServerCertificateCustomValidationCallback = (message, certificate, chain, errors) => true; }
        catch (NotImplementedException) { }
        var client = new HttpClient(handler);
        try {
            foreach (var url in Environment.GetEnvironmentVariable("URL").Split(' ')) {
                var answer = client.GetAsync(url).Result;
                Console.Write(answer.Content.ReadAsStringAsync().Result);
                answer.EnsureSuccessStatusCode();
            }
        } catch (Exception error) {
            Console.Error.WriteLine(error);
            return 1;
        }
        return 0;
    }
}
