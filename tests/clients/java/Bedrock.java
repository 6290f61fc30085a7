// AWS's SDK for Java with the clients of deploy/clients.md, by which the test replaces CLIENTS. The arguments are the
// gateway's URL, a model of Anthropic, and the names of the models of Converse. Prints a line for each call: its name, a
// tab, and the reply or the error.

import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.bedrockruntime.BedrockRuntimeAsyncClient;
import software.amazon.awssdk.services.bedrockruntime.BedrockRuntimeClient;
import software.amazon.awssdk.services.bedrockruntime.model.ContentBlock;
import software.amazon.awssdk.services.bedrockruntime.model.ConverseRequest;
import software.amazon.awssdk.services.bedrockruntime.model.ConverseResponse;
import software.amazon.awssdk.services.bedrockruntime.model.ConverseStreamRequest;
import software.amazon.awssdk.services.bedrockruntime.model.ConverseStreamResponseHandler;
import software.amazon.awssdk.services.bedrockruntime.model.InvokeModelRequest;
import software.amazon.awssdk.services.bedrockruntime.model.InvokeModelResponse;
import software.amazon.awssdk.services.bedrockruntime.model.InvokeModelWithResponseStreamRequest;
import software.amazon.awssdk.services.bedrockruntime.model.InvokeModelWithResponseStreamResponseHandler;
import software.amazon.awssdk.services.bedrockruntime.model.Message;

public class Bedrock {
    static final String BODY =
        "{\"anthropic_version\":\"bedrock-2023-05-31\",\"max_tokens\":50,"
            + "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";

    static BedrockRuntimeAsyncClient http2(String url) {
        CLIENTS
        return client;
    }

    static BedrockRuntimeClient whole(String url) {
        CLIENTS
        return client;
    }

    public static void main(String[] arguments) {
        String url = arguments[0], claude = arguments[1];
        List<String> models = List.of(arguments).subList(2, arguments.length);
        asynchronous("http2", http2(url), claude, models);
        synchronous("apache", whole(url), claude, models);

        // in a process of its own, the variable AWS_BEARER_TOKEN_BEDROCK does the same
        System.setProperty("aws.bearerTokenBedrock", "a-key");
        asynchronous("http1", BedrockRuntimeAsyncClient.builder()
            .endpointOverride(URI.create(url)).region(Region.US_EAST_1)
            .overrideConfiguration(settings -> settings.addExecutionInterceptor(new Scheme()))
            .httpClient(NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1).build()).build(), claude, models);
        synchronous("java.net", BedrockRuntimeClient.builder()
            .endpointOverride(URI.create(url)).region(Region.US_EAST_1)
            .overrideConfiguration(settings -> settings.addExecutionInterceptor(new Scheme()))
            .httpClient(UrlConnectionHttpClient.create()).build(), claude, models);
        say("authorization", () -> String.join(" ", Scheme.SEEN));
        System.exit(0);
    }

    static void asynchronous(String name, BedrockRuntimeAsyncClient client, String claude, List<String> models) {
        for (String model : models) {
            say(name + " converse", () -> text(got(client.converse(converse(model, "hello")))));
            say(name + " converseStream", () -> streamed(client, model, "hello"));
        }
        say(name + " invokeModel", () -> got(client.invokeModel(invoke(claude))).body().asUtf8String());
        say(name + " invokeModelWithResponseStream", () -> {
            StringBuilder text = new StringBuilder();
            InvokeModelWithResponseStreamRequest request =
                InvokeModelWithResponseStreamRequest.builder().modelId(claude).body(SdkBytes.fromUtf8String(BODY)).build();
            got(client.invokeModelWithResponseStream(request, InvokeModelWithResponseStreamResponseHandler.builder()
                .subscriber(InvokeModelWithResponseStreamResponseHandler.Visitor.builder()
                    .onChunk(chunk -> text.append(chunk.bytes().asUtf8String())).build()).build()));
            return text.toString();
        });
        say(name + " together", () -> {
            List<CompletableFuture<ConverseResponse>> replies =
                Stream.generate(() -> client.converse(converse(models.get(0), "hello"))).limit(10).toList();
            List<String> texts = new ArrayList<>();
            for (CompletableFuture<ConverseResponse> reply : replies)
                texts.add(text(got(reply)));
            return texts.size() + " " + texts.stream().distinct().toList();
        });
        say(name + " unknown", () -> text(got(client.converse(converse("no.such-model", "hello")))));
        say(name + " unknown streamed", () -> streamed(client, "no.such-model", "hello"));
        for (String scenario : List.of("error_in_stream", "no_end", "cut"))
            say(name + " " + scenario, () -> streamed(client, models.get(0), "[[scenario: " + scenario + "]]"));
    }

    static void synchronous(String name, BedrockRuntimeClient client, String claude, List<String> models) {
        for (String model : models)
            say(name + " converse", () -> text(client.converse(converse(model, "hello"))));
        say(name + " invokeModel", () -> client.invokeModel(invoke(claude)).body().asUtf8String());
        say(name + " unknown", () -> text(client.converse(converse("no.such-model", "hello"))));
        say(name + " unknown invoked", () -> client.invokeModel(invoke("no.such-model")).body().asUtf8String());
    }

    static void say(String name, Callable<String> call) {
        String result;
        try {
            result = call.call();
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            result = cause.getClass().getSimpleName() + " " + (cause instanceof AwsServiceException refused
                ? refused.statusCode() + " " + refused.awsErrorDetails().errorMessage() : cause.getMessage());
        }
        System.out.println(name + "\t" + result.replace("\n", " "));
    }

    static <T> T got(CompletableFuture<T> reply) throws Exception {
        return reply.get(60, TimeUnit.SECONDS);
    }

    static ConverseRequest converse(String model, String prompt) {
        return ConverseRequest.builder().modelId(model).messages(message(prompt)).build();
    }

    static InvokeModelRequest invoke(String model) {
        return InvokeModelRequest.builder().modelId(model).body(SdkBytes.fromUtf8String(BODY)).build();
    }

    static Message message(String prompt) {
        return Message.builder().role("user").content(ContentBlock.fromText(prompt)).build();
    }

    static String text(ConverseResponse reply) {
        return reply.output().message().content().get(0).text() + " " + reply.stopReason() + " "
            + reply.usage().outputTokens();
    }

    static String streamed(BedrockRuntimeAsyncClient client, String model, String prompt) throws Exception {
        StringBuilder text = new StringBuilder();
        ConverseStreamRequest request = ConverseStreamRequest.builder().modelId(model).messages(message(prompt)).build();
        got(client.converseStream(request, ConverseStreamResponseHandler.builder()
            .subscriber(ConverseStreamResponseHandler.Visitor.builder()
                .onContentBlockDelta(event -> text.append(event.delta().text()))
                .onMessageStop(event -> text.append(" ").append(event.stopReason()))
                .onMetadata(event -> text.append(" ").append(event.usage().outputTokens())).build()).build()));
        return text.toString();
    }

    /** Collects the schemes of authorization of the requests. */
    static class Scheme implements ExecutionInterceptor {
        static final java.util.Set<String> SEEN = new java.util.TreeSet<>();

        @Override
        public void beforeTransmission(Context.BeforeTransmission context, ExecutionAttributes attributes) {
            SEEN.add(context.httpRequest().firstMatchingHeader("Authorization").orElse("none").split(" ")[0]);
        }
    }
}
