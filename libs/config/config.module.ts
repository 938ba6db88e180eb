import { type DynamicModule, Module } from '@nestjs/common';
import type { Config } from './config.js';

export const AUTH_CONFIG = Symbol('AuthConfig');
export const LIMITS_CONFIG = Symbol('LimitsConfig');
export const HISTORY_CONFIG = Symbol('HistoryConfig');
export const INVOCATIONS_CONFIG = Symbol('InvocationsConfig');
export const SCHEDULES_CONFIG = Symbol('SchedulesConfig');
export const FUNCTION_DEFAULTS = Symbol('FunctionDefaults');
export const SECRETS_CONFIG = Symbol('SecretsConfig');
export const ORCHESTRATOR_CONFIG = Symbol('OrchestratorConfig');
export const RECONCILE_CONFIG = Symbol('ReconcileConfig');
export const SCALE_CONFIG = Symbol('ScaleConfig');
export const LAYERS_CONFIG = Symbol('LayersConfig');
export const METRICS_CONFIG = Symbol('MetricsConfig');

/** Makes each slice of the parsed configuration injectable by its own token. */
@Module({})
export class ConfigModule {
  static forRoot(config: Config): DynamicModule {
    const providers = [
      { provide: AUTH_CONFIG, useValue: config.auth },
      { provide: LIMITS_CONFIG, useValue: config.limits },
      { provide: HISTORY_CONFIG, useValue: config.history },
      { provide: INVOCATIONS_CONFIG, useValue: config.invocations },
      { provide: SCHEDULES_CONFIG, useValue: config.schedules },
      { provide: FUNCTION_DEFAULTS, useValue: config.functions },
      { provide: SECRETS_CONFIG, useValue: config.secrets },
      { provide: ORCHESTRATOR_CONFIG, useValue: config.orchestrator },
      { provide: RECONCILE_CONFIG, useValue: config.reconcile },
      { provide: SCALE_CONFIG, useValue: config.scale },
      { provide: LAYERS_CONFIG, useValue: config.layers },
      { provide: METRICS_CONFIG, useValue: config.metrics },
    ];
    return { module: ConfigModule, global: true, providers, exports: providers.map(({ provide }) => provide) };
  }
}
