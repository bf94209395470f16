import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.client.builder.AwsAsyncClientBuilder;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.async.SdkAsyncHttpClient;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.CoordinatorConfig;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A worker of Amazon's Kinesis Client Library, for tests. Arguments: the services' URL, the stream, the application, the worker's name, how
 * long a lease lasts in milliseconds, how many records of a shard to take at most, and of KCL 3 its ClientVersionConfig.
 *
 * <p>It begins at the trim horizon in shards without a checkpoint, and prints a line for each that happens:
 *
 * <pre>
 * begun SHARD SEQUENCE SUB-SEQUENCE           a shard is read, from behind this checkpoint
 * record SHARD SEQUENCE SUB-SEQUENCE DATA
 * lost SHARD                                  its lease is another's
 * ended SHARD                                 it was read to its end
 * checkpointed                                the answer to `checkpoint`
 * stopped                                     the last line
 * </pre>
 *
 * <p>It takes commands, one a line: `checkpoint` writes how far each shard was read, `stop` (or the end of the input) does so, too, and
 * ends, and `halt` ends at once, as a crash does.
 */
public class Reader {
    private static final Map<String, Shard> SHARDS = new ConcurrentHashMap<>();
    private static final int GRACE_SECONDS = 5;
    private static int limit;

    public static void main(String[] arguments) throws Exception {
        String stream = arguments[1];
        String application = arguments[2];
        limit = Integer.parseInt(arguments[5]);
        URI endpoint = URI.create(arguments[0]);
        SdkAsyncHttpClient http = NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1).maxConcurrency(100).build();
        KinesisAsyncClient kinesis = at(KinesisAsyncClient.builder(), endpoint, http).build();
        DynamoDbAsyncClient dynamodb = at(DynamoDbAsyncClient.builder(), endpoint, http).build();
        CloudWatchAsyncClient cloudwatch = at(CloudWatchAsyncClient.builder(), endpoint, http).build();

        InitialPositionInStreamExtended start = InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        ConfigsBuilder configs = new ConfigsBuilder(
            new SingleStreamTracker(stream, start), application, kinesis, dynamodb, cloudwatch, arguments[3], Shard::new);
        CoordinatorConfig coordinator =
            configs.coordinatorConfig().parentShardPollIntervalMillis(200).shardConsumerDispatchPollIntervalMillis(100);
        if (arguments.length > 6) {
            choose(coordinator, arguments[6]);
        }
        Scheduler scheduler = new Scheduler(
            configs.checkpointConfig(),
            coordinator,
            configs.leaseManagementConfig().failoverTimeMillis(Long.parseLong(arguments[4])).shardSyncIntervalMillis(1000),
            configs.lifecycleConfig(),
            configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
            configs.processorConfig(),
            configs.retrievalConfig().retrievalSpecificConfig(new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(200)));
        Thread running = new Thread(scheduler);
        running.start();

        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = commands.readLine()) != null && !line.equals("stop"); ) {
            if (line.equals("halt")) {
                Runtime.getRuntime().halt(0);
            }
            for (Shard shard : SHARDS.values()) {
                shard.checkpoint();
            }
            tell("checkpointed");
        }
        stop(scheduler);
        running.join();
        tell("stopped");
        Runtime.getRuntime().halt(0);
    }

    private static void stop(Scheduler scheduler) throws Exception {
        try {
            scheduler.startGracefulShutdown().get(GRACE_SECONDS, TimeUnit.SECONDS);
        } catch (TimeoutException waits) {
            // The library waits for ever for a shard that was read to its end before it took the lease.
            scheduler.shutdown();
        }
    }

    private static <B extends AwsClientBuilder<B, C> & AwsAsyncClientBuilder<B, C>, C> B at(B builder, URI endpoint, SdkAsyncHttpClient http) {
        StaticCredentialsProvider anybody = StaticCredentialsProvider.create(AwsBasicCredentials.create("AKIAEXAMPLE", "hunter2"));
        return builder.endpointOverride(endpoint).region(Region.EU_WEST_1).credentialsProvider(anybody).httpClient(http);
    }

    /** What KCL 2 has not, so that this compiles with either. */
    private static void choose(CoordinatorConfig config, String version) throws ReflectiveOperationException {
        for (Class<?> inner : CoordinatorConfig.class.getDeclaredClasses()) {
            if (inner.getSimpleName().equals("ClientVersionConfig")) {
                Object chosen = inner.getMethod("valueOf", String.class).invoke(null, version);
                CoordinatorConfig.class.getMethod("clientVersionConfig", inner).invoke(config, chosen);
            }
        }
    }

    private static void tell(String line) {
        synchronized (System.out) {
            System.out.println(line);
            System.out.flush();
        }
    }

    /** What is done with the records of a shard. */
    private static class Shard implements ShardRecordProcessor {
        private String id;
        private int taken;
        private KinesisClientRecord last;
        private RecordProcessorCheckpointer checkpointer;

        @Override
        public void initialize(InitializationInput input) {
            id = input.shardId();
            SHARDS.put(id, this);
            tell("begun " + id + " " + input.extendedSequenceNumber().sequenceNumber() + " "
                + input.extendedSequenceNumber().subSequenceNumber());
        }

        @Override
        public synchronized void processRecords(ProcessRecordsInput input) {
            checkpointer = input.checkpointer();
            for (KinesisClientRecord record : input.records()) {
                if (taken == limit) {
                    return;
                }
                taken++;
                last = record;
                String data = StandardCharsets.UTF_8.decode(record.data().duplicate()).toString();
                tell("record " + id + " " + record.sequenceNumber() + " " + record.subSequenceNumber() + " " + data);
            }
        }

        synchronized void checkpoint() throws InvalidStateException {
            try {
                if (last != null) {
                    checkpointer.checkpoint(last.sequenceNumber(), last.subSequenceNumber());
                }
            } catch (ShutdownException lost) {
                // Whoever has the lease now says how far the shard is read.
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            SHARDS.remove(id, this);
            tell("lost " + id);
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            try {
                input.checkpointer().checkpoint();
            } catch (InvalidStateException | ShutdownException error) {
                tell("error " + error);
            }
            SHARDS.remove(id, this);
            tell("ended " + id);
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            try {
                checkpoint();
            } catch (InvalidStateException error) {
                tell("error " + error);
            }
        }
    }
}
